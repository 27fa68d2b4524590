/** What containerd knows of a container's layers, for containers on another snapshotter than ours. */
import type { Client, Metadata, ServiceError } from '@grpc/grpc-js';
import { Code } from '../../proto/status.ts';
import { chainOfName } from '../chain-id.ts';
import { SnapshotError } from '../error.ts';
import { SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE } from '../grpc/proto-files.ts';

const DEADLINE_MS = 5_000;
/** More than any image has: a chain is walked by one call a layer. */
const MAX_LAYERS = 2048;

interface ContainerResponse {
  container: { snapshotter: string; snapshotKey: string } | null;
}
interface StatResponse {
  info: { name: string; parent: string } | null;
}

type Unary = (
  request: object,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: unknown) => void,
) => void;

/** Chain IDs of a container's layers, bottom first; undefined where a snapshot has another kind of name. */
export type LayersOfContainer = (namespace: string, containerId: string) => Promise<(string | undefined)[]>;

/** Asks containerd at a unix socket. UNAVAILABLE if it does not answer, NOT_FOUND for an unknown container. */
export function containerdLayers(address: string): LayersOfContainer {
  return async (namespace, containerId) => {
    const { credentials, loadService, Metadata } = await import('../grpc/clients.ts');
    const Containers = loadService(
      'containerd/services/containers/v1/containers.proto',
      'containerd.services.containers.v1.Containers',
    );
    const Snapshots = loadService(SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE);
    const target = `unix:${address}`;
    const containers = new Containers(target, credentials.createInsecure());
    const snapshots = new Snapshots(target, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set('containerd-namespace', namespace);
    const call = <Response>(client: Client, method: string, request: object) =>
      new Promise<Response>((resolve, reject) => {
        const unary = (client as unknown as Record<string, Unary>)[method];
        if (!unary) return reject(new SnapshotError(Code.internal, `No method ${method}`));
        unary.call(client, request, metadata, { deadline: Date.now() + DEADLINE_MS }, (error, response) => {
          if (error) reject(asSnapshotError(error, method));
          else resolve(response as Response);
        });
      });
    try {
      const { container } = await call<ContainerResponse>(containers, 'Get', { id: containerId });
      const snapshotter = container?.snapshotter ?? '';
      const chains: (string | undefined)[] = [];
      let key = container?.snapshotKey ?? '';
      for (let depth = 0; depth < MAX_LAYERS; depth++) {
        const { info } = await call<StatResponse>(snapshots, 'Stat', { snapshotter, key });
        if (!info || info.parent === '') return chains.reverse();
        key = info.parent;
        chains.push(chainOfName(key));
      }
      throw new SnapshotError(Code.invalidArgument, `Container "${containerId}" has too many layers`);
    } finally {
      containers.close();
      snapshots.close();
    }
  };
}

function asSnapshotError(error: ServiceError, method: string): SnapshotError {
  const code = Object.values(Code).find((known) => known === error.code) ?? Code.unknown;
  return new SnapshotError(code, `Cannot ask containerd for the container's layers: ${error.details}`, {
    cause: error,
    context: { method },
  });
}
