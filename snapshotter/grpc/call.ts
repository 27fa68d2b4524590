/** One call as its handler sees it: who asks, whether somebody still waits, and where answers go. */
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';
import { failureHeaders, frameMessage } from './wire.ts';

const ANSWER = {
  [constants.HTTP2_HEADER_STATUS]: 200,
  [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
};
const SUCCESS = { 'grpc-status': '0' };

export class Call {
  readonly headers: IncomingHttpHeaders;
  readonly #stream: ServerHttp2Stream;
  #gone: AbortController | undefined;
  #trailers: Readonly<Record<string, string>> = SUCCESS;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders) {
    this.#stream = stream;
    this.headers = headers;
  }

  /** The client went away, or gave up. */
  get cancelled(): boolean {
    return this.#stream.closed || this.#stream.destroyed;
  }

  /** Aborted at the end of the call, however it ends. Only for what may take long: to make one costs as much as a short call. */
  get signal(): AbortSignal {
    if (!this.#gone) {
      const gone = new AbortController();
      this.#gone = gone;
      if (this.cancelled) gone.abort();
      else this.#stream.once('close', () => gone.abort());
    }
    return this.#gone.signal;
  }

  /** False if more would be kept than the client has asked for: wait for `drained`. */
  send(message: Uint8Array): boolean {
    if (this.cancelled) return true;
    this.#begin();
    return this.#stream.write(frameMessage(message));
  }

  /** Until the client has read. DEADLINE_EXCEEDED if it reads nothing for `stallMs`. */
  drained(stallMs: number): Promise<void> {
    const stream = this.#stream;
    return new Promise((resolve, reject) => {
      const settle = (end: () => void) => {
        clearTimeout(timer);
        stream.off('drain', done);
        stream.off('close', done);
        end();
      };
      const done = () => settle(resolve);
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
      stream.once('drain', done);
      stream.once('close', done);
      // Said before anybody listened.
      if (this.cancelled) done();
    });
  }

  /** Ends the call, with a last message if there is one. */
  end(message?: Uint8Array): void {
    if (this.cancelled) return;
    this.#begin();
    if (message) this.#stream.end(frameMessage(message));
    else this.#stream.end();
  }

  fail(error: unknown): void {
    if (this.cancelled) return;
    const failure = failureHeaders(error);
    if (this.#stream.headersSent) {
      // Behind what was sent; a client that reads nothing does not get it before it reads on.
      this.#trailers = failure;
      this.#stream.end();
    } else {
      this.#stream.respond({ ...ANSWER, ...failure }, { endStream: true });
    }
  }

  #begin(): void {
    const stream = this.#stream;
    if (stream.headersSent) return;
    stream.respond(ANSWER, { waitForTrailers: true });
    stream.once('wantTrailers', () => stream.sendTrailers(this.#trailers));
  }
}
