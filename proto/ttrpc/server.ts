/** ttrpc server: unary methods over unix sockets. Requests of one connection run in parallel. */
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Code } from '../status.ts';
import { type DecodedFrame, encodeFrame, FrameDecoder, FrameType, MAX_DATA_LENGTH } from './frame.ts';
import { decodeRequest, encodeResponse, type Metadata, type RequestMessage } from './message.ts';
import { TtrpcError, toWireStatus } from './status.ts';

export interface CallContext {
  service: string;
  method: string;
  metadata: Metadata;
  /** Aborted at the deadline and when the connection is gone: nobody will read the answer. */
  signal: AbortSignal;
}

export type Handler = (payload: Uint8Array, call: CallContext) => Promise<Uint8Array>;
/** Service name ("containerd.task.v2.Task") to method name ("Create") to handler. */
export type Services = Readonly<Record<string, Readonly<Record<string, Handler>>>>;

export interface TtrpcServerOptions {
  services: Services;
  /** Throws if the peer may not connect; then the connection is closed without a byte. */
  authorize?: (socket: Socket) => void;
  /** Failures outside of calls: refused peers, broken connections, accept errors. */
  onError?: (error: unknown) => void;
  /** A call was answered, also with an error. */
  onAnswered?: () => void;
}

/** A client connects in order to ask: its first request is as good as here. */
const FIRST_REQUEST_MS = 200;

export class TtrpcServer {
  readonly #options: TtrpcServerOptions;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();

  constructor(options: TtrpcServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => {
      try {
        options.authorize?.(socket);
      } catch (error) {
        socket.destroy();
        options.onError?.(error);
        return;
      }
      this.serve(socket);
    });
  }

  /** Accepts on a path, which must not exist, or on an inherited listening descriptor. */
  listen(where: { path: string } | { fd: number }): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(where, () => {
        this.#server.off('error', reject);
        this.#server.on('error', (error) => this.#options.onError?.(error));
        resolve();
      });
    });
  }

  /** Serves one connection; also what tests call with a pair of streams. */
  serve(stream: Duplex): void {
    const connection = new Connection(stream, this.#options);
    this.#connections.add(connection);
    stream.once('close', () => this.#connections.delete(connection));
  }

  /** Stops accepting, lets calls in flight finish for at most `graceMs`, then closes every connection. */
  async close(graceMs = 0): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    if (graceMs > 0) {
      let timer: NodeJS.Timeout | undefined;
      const expired = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, graceMs);
      });
      await Promise.race([Promise.all([...this.#connections].map((c) => c.settled())), expired]);
      clearTimeout(timer);
    }
    for (const connection of this.#connections) connection.end();
    await closed;
  }
}

class Connection {
  readonly #stream: Duplex;
  readonly #options: TtrpcServerOptions;
  readonly #decoder = new FrameDecoder();
  readonly #gone = new AbortController();
  readonly #inFlight = new Set<Promise<void>>();
  readonly #asked = Promise.withResolvers<void>();
  #lastStream = 0;

  constructor(stream: Duplex, options: TtrpcServerOptions) {
    this.#stream = stream;
    this.#options = options;
    stream.on('data', (chunk: Buffer) => {
      for (const frame of this.#decoder.push(chunk)) this.#receive(frame);
    });
    // A client that does not read its answers gets no more requests in.
    stream.on('drain', () => stream.resume());
    stream.on('error', (error) => options.onError?.(error));
    stream.on('end', () => stream.end());
    stream.on('close', () => {
      this.#gone.abort();
      this.#asked.resolve();
    });
  }

  /** Once what was asked is answered. */
  async settled(): Promise<void> {
    const timer = setTimeout(() => this.#asked.resolve(), FIRST_REQUEST_MS);
    await this.#asked.promise;
    clearTimeout(timer);
    // Others may be asked while the first ones are answered.
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight);
  }

  end(): void {
    // Written answers leave first; a peer that never reads does not hold us up.
    this.#stream.end(() => this.#stream.destroy());
    setTimeout(() => this.#stream.destroy(), 1000).unref();
  }

  #receive(frame: DecodedFrame): void {
    // Data frames belong to streaming calls, which no service here has; unknown types must be ignored.
    if (frame.type !== FrameType.request) return;
    const { stream } = frame;
    const request = this.#accept(frame);
    if (request instanceof TtrpcError) {
      this.#send(stream, encodeResponse({ kind: 'error', status: toWireStatus(request) }));
      return;
    }
    const call = this.#call(stream, request).finally(() => this.#inFlight.delete(call));
    this.#inFlight.add(call);
    this.#asked.resolve();
  }

  #accept(frame: DecodedFrame): RequestMessage | TtrpcError {
    const { stream } = frame;
    if (stream % 2 !== 1)
      return new TtrpcError(Code.invalidArgument, 'StreamID must be odd for client initiated streams');
    if (stream <= this.#lastStream)
      return new TtrpcError(Code.invalidArgument, 'StreamID cannot be re-used and must increment');
    this.#lastStream = stream;
    if (frame.kind === 'oversized')
      return new TtrpcError(
        Code.resourceExhausted,
        `message length ${frame.length} exceed maximum message size of ${MAX_DATA_LENGTH}`,
      );
    try {
      return decodeRequest(frame.data);
    } catch (cause) {
      return new TtrpcError(Code.invalidArgument, 'unmarshal request error', { cause });
    }
  }

  async #call(stream: number, request: RequestMessage): Promise<void> {
    const { service, method, payload, metadata, timeoutMs } = request;
    const abort = new AbortController();
    const onGone = () => abort.abort();
    this.#gone.signal.addEventListener('abort', onGone, { once: true });
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<never>((_, reject) => {
      if (timeoutMs === undefined) return;
      const expire = () => {
        reject(new TtrpcError(Code.deadlineExceeded, 'context deadline exceeded'));
        abort.abort();
      };
      timer = setTimeout(expire, Math.min(timeoutMs, MAX_TIMER_MS));
    });
    try {
      const answer = this.#dispatch(service, method, payload, {
        service,
        method,
        metadata,
        signal: abort.signal,
      });
      const bytes = encodeResponse({ kind: 'ok', payload: await Promise.race([answer, expired]) });
      if (bytes.length > MAX_DATA_LENGTH)
        throw new TtrpcError(
          Code.resourceExhausted,
          `response of ${bytes.length} bytes exceeds the maximum message size of ${MAX_DATA_LENGTH}`,
        );
      this.#send(stream, bytes);
    } catch (error) {
      this.#send(stream, encodeResponse({ kind: 'error', status: toWireStatus(error) }));
    } finally {
      clearTimeout(timer);
      this.#gone.signal.removeEventListener('abort', onGone);
      this.#options.onAnswered?.();
    }
  }

  async #dispatch(
    service: string,
    method: string,
    payload: Uint8Array,
    call: CallContext,
  ): Promise<Uint8Array> {
    const methods = own(this.#options.services, service);
    if (!methods) throw new TtrpcError(Code.unimplemented, `service ${service}`);
    const handler = own(methods, method);
    if (!handler) throw new TtrpcError(Code.unimplemented, `method ${method}`);
    return handler(payload, call);
  }

  #send(stream: number, bytes: Uint8Array): void {
    if (this.#stream.destroyed || this.#stream.writableEnded) return;
    if (!this.#stream.write(encodeFrame(stream, FrameType.response, 0, bytes))) this.#stream.pause();
  }
}

/** Longest delay of a timer (2^31-1 ms); a longer one would fire at once. */
const MAX_TIMER_MS = 0x7fffffff;

function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}
