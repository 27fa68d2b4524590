/** ttrpc client: unary calls with deadlines over one connection. A closed connection stays closed; make a new client. */
import { connect as connectSocket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Code } from '../status.ts';
import type { Decoder, Encoder } from './codec.ts';
import { type DecodedFrame, encodeFrame, FrameDecoder, FrameType, MAX_DATA_LENGTH } from './frame.ts';
import { decodeResponse, encodeRequest, type Metadata } from './message.ts';
import { fromWireStatus, TtrpcError } from './status.ts';

export interface CallOptions {
  /** Milliseconds until the call fails with DeadlineExceeded, here and on the server. */
  timeoutMs: number;
  metadata?: Metadata;
  /** Gives up the call; ttrpc has no cancel frame, so the server goes on until its deadline. */
  signal?: AbortSignal;
}

interface Pending {
  resolve(payload: Uint8Array): void;
  reject(error: TtrpcError): void;
  service: string;
  method: string;
}

export class TtrpcClient {
  readonly #stream: Duplex;
  readonly #decoder = new FrameDecoder();
  readonly #pending = new Map<number, Pending>();
  readonly #closed: Promise<void>;
  #nextStream = 1;
  #failure: TtrpcError | undefined;

  /** Takes over a connected stream. */
  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => {
      for (const frame of this.#decoder.push(chunk)) this.#receive(frame);
    });
    stream.on('error', (cause) => this.#fail('The connection broke', cause));
    stream.on('end', () => stream.destroy());
    this.#closed = new Promise((resolve) => {
      stream.on('close', () => {
        this.#fail('The connection was closed');
        resolve();
      });
    });
  }

  /** Unavailable if nobody listens there, DeadlineExceeded if nobody accepts in time. */
  static connect(path: string, timeoutMs: number): Promise<TtrpcClient> {
    return new Promise((resolve, reject) => {
      const socket = connectSocket({ path });
      const timer = setTimeout(() => {
        socket.destroy();
        reject(new TtrpcError(Code.deadlineExceeded, `Cannot connect to "${path}" within ${timeoutMs} ms`));
      }, timeoutMs);
      const onError = (cause: Error) => {
        clearTimeout(timer);
        reject(new TtrpcError(Code.unavailable, `Cannot connect to "${path}": ${cause.message}`, { cause }));
      };
      socket.once('error', onError);
      socket.once('connect', () => {
        clearTimeout(timer);
        socket.off('error', onError);
        resolve(new TtrpcClient(socket));
      });
    });
  }

  /** Settles when the connection is gone. */
  get closed(): Promise<void> {
    return this.#closed;
  }

  get usable(): boolean {
    return this.#failure === undefined;
  }

  close(): void {
    this.#stream.destroy();
  }

  /** Rejects with a TtrpcError that has the server's code and message, or Unavailable if the connection is gone. */
  call(service: string, method: string, payload: Uint8Array, options: CallOptions): Promise<Uint8Array> {
    const { timeoutMs, metadata = {}, signal } = options;
    if (this.#failure) return Promise.reject(this.#failure);
    if (signal?.aborted) return Promise.reject(canceled(service, method));
    const bytes = encodeRequest({ service, method, payload, timeoutMs, metadata });
    if (bytes.length > MAX_DATA_LENGTH)
      return Promise.reject(
        new TtrpcError(
          Code.resourceExhausted,
          `Request of ${bytes.length} bytes exceeds the maximum message size of ${MAX_DATA_LENGTH}`,
          { context: { service, method } },
        ),
      );
    const stream = this.#nextStream;
    this.#nextStream += 2;
    return new Promise((resolve, reject) => {
      const onAbort = () => this.#settle(stream)?.reject(canceled(service, method));
      const timer = setTimeout(
        () =>
          this.#settle(stream)?.reject(
            new TtrpcError(Code.deadlineExceeded, `No answer to ${method} within ${timeoutMs} ms`, {
              context: { service, method },
            }),
          ),
        timeoutMs,
      );
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#pending.set(stream, {
        service,
        method,
        resolve: (value) => {
          done();
          resolve(value);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      });
      this.#stream.write(encodeFrame(stream, FrameType.request, 0, bytes));
    });
  }

  /** A call with typed messages. */
  async unary<Request, Response>(
    service: string,
    method: string,
    codecs: { request: Encoder<Request>; response: Decoder<Response> },
    request: Request,
    options: CallOptions,
  ): Promise<Response> {
    const payload = await this.call(service, method, codecs.request.encode(request).finish(), options);
    try {
      return codecs.response.decode(payload);
    } catch (cause) {
      throw new TtrpcError(Code.internal, `Cannot decode the answer to ${method}`, { cause });
    }
  }

  #receive(frame: DecodedFrame): void {
    if (frame.type !== FrameType.response) return;
    // A stream that is not pending timed out here before; its answer is dropped.
    const pending = this.#settle(frame.stream);
    if (!pending) return;
    const context = { service: pending.service, method: pending.method };
    try {
      if (frame.kind === 'oversized')
        throw new TtrpcError(Code.resourceExhausted, `Answer of ${frame.length} bytes is too long`, {
          context,
        });
      const response = decodeResponse(frame.data);
      if (response.kind === 'error') throw fromWireStatus(response.status, pending.service, pending.method);
      pending.resolve(response.payload);
    } catch (cause) {
      if (cause instanceof TtrpcError) pending.reject(cause);
      else
        pending.reject(
          new TtrpcError(Code.internal, `Cannot decode the answer to ${pending.method}`, { cause, context }),
        );
    }
  }

  #settle(stream: number): Pending | undefined {
    const pending = this.#pending.get(stream);
    this.#pending.delete(stream);
    return pending;
  }

  #fail(message: string, cause?: unknown): void {
    if (this.#failure) return;
    this.#failure = new TtrpcError(Code.unavailable, message, { cause });
    for (const stream of [...this.#pending.keys()]) this.#settle(stream)?.reject(this.#failure);
  }
}

function canceled(service: string, method: string): TtrpcError {
  return new TtrpcError(Code.canceled, `The call of ${method} was given up`, {
    context: { service, method },
  });
}
