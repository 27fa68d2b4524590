/**
 * The gRPC face towards containerd and kubelets. `server.ts` serves any methods, `call.ts` and `wire.ts` with it;
 * `service.ts` and `list.ts` are containerd.services.snapshots.v1.Snapshots, whose wire types `messages.ts` knows;
 * `proto-files.ts` loads definitions, `clients.ts` makes clients of them. Called by daemon.ts.
 */
import { GrpcServer } from './server.ts';
import { type ServiceOptions, snapshotsService } from './service.ts';

export { loadDefinition } from './proto-files.ts';
export { type Call, GrpcServer, type Method, type Methods } from './server.ts';
export { ForwardedError, timeoutMs } from './wire.ts';

export class SnapshotsServer extends GrpcServer {
  constructor(options: ServiceOptions) {
    super(snapshotsService(options), (error) =>
      options.log.warn({ error: error.message }, 'connection failed'),
    );
  }
}
