/** One call as its handler sees it: who asks, whether somebody still waits, and where answers go. */
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';
import type { Connection, Request } from './connection.ts';
import { failureHeaders, frameMessage } from './wire.ts';

const SUCCESS = ['grpc-status', '0'];

export class Call {
  readonly #connection: Connection;
  readonly #stream: number;
  readonly #fields: string;
  #gone: AbortController | undefined;

  constructor(connection: Connection, { stream, fields }: Request) {
    this.#connection = connection;
    this.#stream = stream;
    this.#fields = fields;
  }

  /** What the client said beside the request; one that it gave more than once with commas between. */
  get headers(): Record<string, string> {
    const headers: Record<string, string> = {};
    const parts = this.#fields.split('\0');
    for (let at = 0; at + 1 < parts.length; at += 2) {
      const [name = '', value = ''] = [parts[at], parts[at + 1]];
      headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
    }
    return headers;
  }

  /** The client went away, or gave up. */
  get cancelled(): boolean {
    return !this.#connection.isOpen(this.#stream);
  }

  /** Aborted at the end of the call, however it ends. Only for what may take long: to make one costs as much as a short call. */
  get signal(): AbortSignal {
    if (!this.#gone) {
      const gone = new AbortController();
      this.#gone = gone;
      const look = () => {
        if (!this.cancelled) return;
        unwatch();
        gone.abort();
      };
      const unwatch = this.#connection.watch(this.#stream, look);
      look();
    }
    return this.#gone.signal;
  }

  /** False if more would be kept than the client has asked for: wait for `drained`. */
  send(message: Uint8Array): boolean {
    return this.#connection.send(this.#stream, frameMessage(message));
  }

  /** Until the client has read. DEADLINE_EXCEEDED if it reads nothing for `stallMs`. */
  drained(stallMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (end: () => void) => {
        clearTimeout(timer);
        unwatch();
        end();
      };
      const stalled = () =>
        settle(() =>
          reject(
            new SnapshotError(
              Code.deadlineExceeded,
              `Cannot send the answer: the client read nothing for ${stallMs} ms`,
            ),
          ),
        );
      const timer = setTimeout(stalled, stallMs);
      const look = () => {
        if (this.cancelled || this.#connection.isDrained(this.#stream)) settle(resolve);
      };
      const unwatch = this.#connection.watch(this.#stream, look);
      // Said before anybody listened.
      look();
    });
  }

  /** Ends the call, with a last message if there is one. */
  end(message?: Uint8Array): void {
    this.#connection.end(this.#stream, SUCCESS, message && frameMessage(message));
    this.#gone?.abort();
  }

  /** Behind what was sent; a client that reads nothing does not get it before it reads on. */
  fail(error: unknown): void {
    this.#connection.end(this.#stream, Object.entries(failureHeaders(error)).flat());
    this.#gone?.abort();
  }
}
