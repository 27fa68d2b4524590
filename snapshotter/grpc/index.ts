/**
 * The gRPC face towards containerd: containerd.services.snapshots.v1.Snapshots on a unix socket. `service.ts` maps
 * calls, `messages.ts` knows the wire types, `proto-files.ts` loads definitions. Called by daemon.ts.
 */
import { chmod } from 'node:fs/promises';
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

  constructor(options: ServiceOptions) {
    this.#server = new Server({
      'grpc.max_receive_message_length': MAX_MESSAGE,
      'grpc.max_send_message_length': MAX_MESSAGE,
    });
    this.#server.addService(loadService(SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE).service, {
      ...snapshotsService(options),
    });
  }

  /** Accepts on a path, which must not exist; only root may connect. */
  async listen(path: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      );
    });
    await chmod(path, 0o600);
  }

  /** Lets calls in flight finish for at most `graceMs`. */
  async close(graceMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve())),
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, graceMs);
      }),
    ]);
    clearTimeout(timer);
    this.#server.forceShutdown();
  }
}
