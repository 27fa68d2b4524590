/**
 * A gRPC server over nghttp2 (connection.ts): bytes in and bytes out, unary calls and streams of answers. It knows no service,
 * and of gRPC what containerd and kubelets use.
 */
import { createServer, type Server } from 'node:net';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';
import { Call } from './call.ts';
import { Connection } from './connection.ts';
import { MAX_MESSAGE, readMessage } from './wire.ts';

export type { Call };

/** Answers with the one message of a unary call, or sends several with `call.send` and answers nothing. */
export type Method = (request: Buffer, call: Call) => Promise<Uint8Array | undefined>;
/** By path: "/package.Service/Method". */
export type Methods = ReadonlyMap<string, Method>;

export class GrpcServer {
  readonly #connections = new Set<Connection>();
  readonly #listener: Server;
  readonly #onError: (error: Error) => void;

  /** `onError`: connections that cannot be had, or break. */
  constructor(methods: Methods, onError: (error: Error) => void) {
    this.#onError = onError;
    this.#listener = createServer((socket) => {
      const connection = new Connection(socket, native, {
        onRequest: (on, request) =>
          void answer(methods.get(request.path), request.path, new Call(on, request), request.body),
        onError,
        onClosed: (ended) => this.#connections.delete(ended),
      });
      this.#connections.add(connection);
    });
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
    for (const connection of this.#connections) connection.close();
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([ended, expired]);
    clearTimeout(timer);
    for (const connection of this.#connections) connection.destroy();
  }
}

async function answer(
  method: Method | undefined,
  path: string,
  call: Call,
  body: Buffer | null,
): Promise<void> {
  try {
    if (!method) throw new SnapshotError(Code.unimplemented, `There is no method ${path} here`);
    if (!body)
      throw new SnapshotError(
        Code.resourceExhausted,
        `Cannot take a request of more than ${MAX_MESSAGE} bytes`,
      );
    call.end(await method(readMessage(body), call));
  } catch (error) {
    call.fail(error);
  }
}
