/** One call as its handler sees it: who asks, whether somebody still waits, and where answers go. */
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';
import { encodeHeaders, type Stream } from './http2/index.ts';
import { failureHeaders, frameMessage } from './wire.ts';

const ANSWER = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
] as const;
/** The same bytes for every call. */
const HEADERS = encodeHeaders(ANSWER);
const SUCCESS = encodeHeaders([['grpc-status', '0']]);

export class Call {
  readonly #stream: Stream;
  #gone: AbortController | undefined;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** What the client said beside the request; one that it gave more than once with commas between. */
  get headers(): Record<string, string> {
    const headers: Record<string, string> = {};
    for (const [name, value] of this.#stream.fields)
      headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
    return headers;
  }

  /** The client went away, or gave up. */
  get cancelled(): boolean {
    return this.#stream.closed;
  }

  /** Aborted at the end of the call, however it ends. Only for what may take long: to make one costs as much as a short call. */
  get signal(): AbortSignal {
    if (!this.#gone) {
      const stream = this.#stream;
      const gone = new AbortController();
      this.#gone = gone;
      const look = () => {
        if (stream.closed) gone.abort();
      };
      stream.watch(look);
      look();
    }
    return this.#gone.signal;
  }

  /** False if more would be kept than the client has asked for: wait for `drained`. */
  send(message: Uint8Array): boolean {
    this.#begin();
    this.#stream.data(frameMessage(message));
    return this.#stream.closed || this.#stream.ready;
  }

  /** Until the client has read. DEADLINE_EXCEEDED if it reads nothing for `stallMs`. */
  drained(stallMs: number): Promise<void> {
    const stream = this.#stream;
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
        if (stream.ready || stream.closed) settle(resolve);
      };
      const unwatch = stream.watch(look);
      // Said before anybody listened.
      look();
    });
  }

  /** Ends the call, with a last message if there is one. */
  end(message?: Uint8Array): void {
    if (this.cancelled) return;
    this.#begin();
    if (message) this.#stream.data(frameMessage(message));
    this.#stream.end(SUCCESS);
  }

  fail(error: unknown): void {
    const failure = Object.entries(failureHeaders(error));
    // Behind what was sent; a client that reads nothing does not get it before it reads on.
    this.#stream.end(encodeHeaders(this.#stream.headersSent ? failure : [...ANSWER, ...failure]));
  }

  #begin(): void {
    if (!this.#stream.headersSent) this.#stream.headers(HEADERS);
  }
}
