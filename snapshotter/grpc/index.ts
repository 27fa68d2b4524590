/**
 * The gRPC face towards containerd: containerd.services.snapshots.v1.Snapshots on a unix socket. `service.ts` maps
 * calls, `messages.ts` knows the wire types, `proto-files.ts` loads definitions. Called by daemon.ts.
 */
import { createServer, type Server as NetServer } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { loadService } from './proto-files.ts';
import { type ServiceOptions, snapshotsService } from './service.ts';

export { fromTimestamp } from './messages.ts';
export { loadService } from './proto-files.ts';

/** containerd's limit for messages in both directions. */
const MAX_MESSAGE = 16 << 20;

export const SNAPSHOTS_PROTO = 'containerd/services/snapshots/v1/snapshots.proto';
export const SNAPSHOTS_SERVICE = 'containerd.services.snapshots.v1.Snapshots';

export class SnapshotsServer {
  readonly #server: Server;
  readonly #injector: ReturnType<Server['createConnectionInjector']>;
  /** grpc-js itself cannot accept on a descriptor. */
  readonly #listener: NetServer;
  readonly #onError: (error: Error) => void;

  constructor(options: ServiceOptions) {
    const { log } = options;
    this.#onError = (error) => log.warn({ error: error.message }, 'connection not accepted');
    this.#server = new Server({
      'grpc.max_receive_message_length': MAX_MESSAGE,
      'grpc.max_send_message_length': MAX_MESSAGE,
    });
    this.#server.addService(loadService(SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE).service, {
      ...snapshotsService(options),
    });
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#listener = createServer((socket) => this.#injector.injectConnection(socket));
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
    // tryShutdown does not wait for calls over connections that it did not accept itself.
    const ended = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    this.#injector.drain(graceMs);
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([ended, expired]);
    clearTimeout(timer);
    this.#server.forceShutdown();
  }
}
