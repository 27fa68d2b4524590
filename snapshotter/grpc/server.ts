/**
 * A gRPC server over Node's HTTP/2: bytes in and bytes out, unary calls and streams of answers. It knows no service, and
 * of gRPC what containerd and kubelets use: grpc-js took 1.6 times the processor time for a Stat.
 */
import {
  createServer as createHttp2Server,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { createServer, type Server as NetServer } from 'node:net';
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';
import { Call } from './call.ts';
import { MAX_MESSAGE, PREFIX_BYTES, readMessage } from './wire.ts';

export type { Call };

/** Answers with the one message of a unary call, or sends several with `call.send` and answers nothing. */
export type Method = (request: Buffer, call: Call) => Promise<Uint8Array | undefined>;
/** By path: "/package.Service/Method". */
export type Methods = ReadonlyMap<string, Method>;

export class GrpcServer {
  readonly #methods: Methods;
  readonly #http2: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** Node's HTTP/2 server itself would close a descriptor that others hold. */
  readonly #listener: NetServer;
  readonly #onError: (error: Error) => void;

  /** `onError`: connections that cannot be had, or break. */
  constructor(methods: Methods, onError: (error: Error) => void) {
    this.#methods = methods;
    this.#onError = onError;
    // Whoever may connect is root: what a connection holds is not bounded, so that no call of many is refused.
    this.#http2 = createHttp2Server({ maxSessionMemory: Number.MAX_SAFE_INTEGER });
    this.#http2.on('session', (session) => {
      this.#sessions.add(session);
      session.on('close', () => this.#sessions.delete(session));
    });
    this.#http2.on('sessionError', onError);
    this.#http2.on('stream', (stream, headers) => this.#receive(stream, headers));
    this.#listener = createServer((socket) => this.#http2.emit('connection', socket));
  }

  /** Accepts on a path, which must not exist, or on an inherited listening descriptor. */
  async listen(where: { path: string } | { fd: number }): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', reject);
      this.#listener.listen(where, () => {
        this.#listener.off('error', reject);
        this.#listener.on('error', this.#onError);
        resolve();
      });
    });
  }

  /**
   * Stops accepting, and lets calls in flight finish for at most `graceMs`. Clients are told (GOAWAY), and send what was not
   * begun again over a new connection.
   */
  async close(graceMs: number): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    for (const session of this.#sessions) session.close();
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([ended, expired]);
    clearTimeout(timer);
    for (const session of this.#sessions) session.destroy();
  }

  #receive(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    // Who goes away in the middle of a call is noticed by its end.
    stream.on('error', () => {});
    const call = new Call(stream, headers);
    const path = headers[':path'] ?? '';
    const method = this.#methods.get(path);
    if (!method) {
      stream.resume();
      call.fail(new SnapshotError(Code.unimplemented, `There is no method ${path} here`));
      return;
    }
    const parts: Buffer[] = [];
    let size = 0;
    stream.on('data', (part: Buffer) => {
      size += part.length;
      if (size <= MAX_MESSAGE + PREFIX_BYTES) parts.push(part);
    });
    stream.on('end', () => {
      const [first] = parts;
      const body = first && parts.length === 1 ? first : Buffer.concat(parts);
      void answer(method, call, body, size);
    });
  }
}

async function answer(method: Method, call: Call, body: Buffer, size: number): Promise<void> {
  try {
    if (size > MAX_MESSAGE + PREFIX_BYTES)
      throw new SnapshotError(
        Code.resourceExhausted,
        `Cannot take a request of more than ${MAX_MESSAGE} bytes`,
      );
    call.end(await method(readMessage(body), call));
  } catch (error) {
    call.fail(error);
  }
}
