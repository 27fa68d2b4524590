/** One client's connection: nghttp2 in the addon says what the bytes mean, here they are moved. */
import type { Socket } from 'node:net';
import type { Http2Handle } from '../../native/http2.ts';
import type { Addon } from '../../native/index.ts';
import { MAX_MESSAGE, PREFIX_BYTES } from './wire.ts';

export type Http2 = Pick<
  Addon,
  | 'http2Open'
  | 'http2Receive'
  | 'http2Answer'
  | 'http2Queued'
  | 'http2Streams'
  | 'http2Take'
  | 'http2Shutdown'
>;

const HEADERS = [':status', '200', 'content-type', 'application/grpc'];
/** More than this of an answer waits for its client. */
const HIGH_WATER = 64 << 10;

export interface Request {
  stream: number;
  path: string;
  /** "name NUL value NUL …" */
  fields: string;
  /** Null if it was too large. */
  body: Buffer | null;
}

export interface ConnectionEvents {
  onRequest: (connection: Connection, request: Request) => void;
  onError: (error: Error) => void;
  onClosed: (connection: Connection) => void;
}

export class Connection {
  readonly #socket: Socket;
  readonly #http2: Http2;
  readonly #handle: Http2Handle;
  readonly #onError: (error: Error) => void;
  /** Who wants to know when something of a stream was sent, or that nothing will be. */
  readonly #watchers = new Map<number, Set<() => void>>();
  readonly #open = new Set<number>();
  #flushing = false;
  #blocked = false;
  #closing = false;
  #closed = false;

  constructor(socket: Socket, http2: Http2, { onRequest, onError, onClosed }: ConnectionEvents) {
    this.#socket = socket;
    this.#http2 = http2;
    this.#handle = http2.http2Open(MAX_MESSAGE + PREFIX_BYTES);
    this.#onError = onError;
    socket.on('data', (bytes: Buffer) => {
      const found = this.#try(() => http2.http2Receive(this.#handle, bytes)) ?? [];
      for (let at = 0; at < found.length; at += 4) {
        const [stream, path, fields, body] = found.slice(at, at + 4) as [
          number,
          string | null,
          string,
          Buffer | null,
        ];
        if (path === null) this.#lose(stream);
        else {
          this.#open.add(stream);
          onRequest(this, { stream, path, fields, body });
        }
      }
      this.#flushSoon();
    });
    socket.on('drain', () => {
      this.#blocked = false;
      this.#flush();
    });
    socket.on('error', onError);
    socket.on('close', () => {
      this.#closed = true;
      for (const stream of [...this.#open]) this.#lose(stream);
      onClosed(this);
    });
    this.#flushSoon();
  }

  /** Whether somebody still waits for this stream's answer. */
  isOpen(stream: number): boolean {
    return this.#open.has(stream);
  }

  /** More of an answer; false if more than enough waits already: see `watch`. */
  send(stream: number, bytes: Uint8Array): boolean {
    if (!this.#open.has(stream)) return true;
    this.#try(() => this.#http2.http2Answer(this.#handle, stream, HEADERS, bytes));
    this.#flushSoon();
    return this.#http2.http2Queued(this.#handle, stream) <= HIGH_WATER;
  }

  /** The end of an answer, with the last bytes if there are some. */
  end(stream: number, trailers: readonly string[], bytes?: Uint8Array): void {
    if (!this.#open.delete(stream)) return;
    this.#try(() => this.#http2.http2Answer(this.#handle, stream, HEADERS, bytes, trailers));
    this.#flushSoon();
  }

  /** Nothing of the stream waits to be sent. */
  isDrained(stream: number): boolean {
    return this.#http2.http2Queued(this.#handle, stream) === 0;
  }

  /** Calls `look` whenever something was sent, and when the stream ended; answers how to stop that. */
  watch(stream: number, look: () => void): () => void {
    const watchers = this.#watchers.get(stream) ?? new Set();
    this.#watchers.set(stream, watchers);
    watchers.add(look);
    return () => {
      watchers.delete(look);
      if (watchers.size === 0) this.#watchers.delete(stream);
    };
  }

  /** The client begins nothing new; the connection ends with its last call. */
  close(): void {
    if (this.#closed || this.#closing) return;
    this.#closing = true;
    this.#try(() => this.#http2.http2Shutdown(this.#handle));
    this.#flush();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** What fails for nghttp2 fails for the whole connection. */
  #try<T>(step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.#onError(error as Error);
      this.#socket.destroy();
      return undefined;
    }
  }

  #lose(stream: number): void {
    this.#open.delete(stream);
    for (const look of [...(this.#watchers.get(stream) ?? [])]) look();
  }

  /** Behind all that is answered in this turn of the event loop: it goes in one piece, also with what nghttp2 says by itself. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (!this.#blocked && !this.#closed) {
      const bytes = this.#try(() => this.#http2.http2Take(this.#handle));
      if (bytes === undefined) break;
      this.#blocked = !this.#socket.write(bytes);
    }
    for (const watchers of [...this.#watchers.values()]) for (const look of [...watchers]) look();
    if (this.#closing && !this.#closed && !this.#blocked && this.#http2.http2Streams(this.#handle) === 0)
      this.#socket.end();
  }
}
