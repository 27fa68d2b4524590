import { type Caller, serviceMethods } from './caller.ts';
import { Connection } from './channel.ts';
import { containers } from './containers.ts';
import { content } from './content.ts';
import { cri } from './cri.ts';
import { images } from './images.ts';
import { leases } from './leases.ts';
import { snapshots } from './snapshots.ts';
import { tasks } from './tasks.ts';
import { type Descriptor, fromWire, type Mount, toWire, type WireDescriptor } from './types.ts';

export interface ContainerdOptions {
  /** Path of containerd's gRPC socket. */
  address: string;
  namespace: string;
}

const diffService = serviceMethods('diff/v1/diff.proto', 'containerd.services.diff.v1.Diff');
const namespaceService = serviceMethods(
  'namespaces/v1/namespace.proto',
  'containerd.services.namespaces.v1.Namespaces',
);
const versionService = serviceMethods('version/v1/version.proto', 'containerd.services.version.v1.Version');

/** Comparing reads every file whose time stamps leave a doubt, on both sides. */
const DIFF_DEADLINE_MS = 30 * 60_000;

export interface Containerd {
  readonly address: string;
  readonly namespace: string;
  readonly containers: ReturnType<typeof containers>;
  readonly cri: ReturnType<typeof cri>;
  readonly content: ReturnType<typeof content>;
  readonly images: ReturnType<typeof images>;
  readonly leases: ReturnType<typeof leases>;
  readonly tasks: ReturnType<typeof tasks>;
  snapshots(snapshotter: string): ReturnType<typeof snapshots>;
  /** Writes what `right` changed against `left` as a layer into the content store. */
  diff(left: Mount[], right: Mount[], mediaType: string): Promise<Descriptor>;
  /** Unpacks a layer of the content store into the mounts; returns the digest of the uncompressed tar. */
  apply(layer: Descriptor, mounts: Mount[]): Promise<string>;
  namespaces(): Promise<string[]>;
  version(): Promise<string>;
  /** The same connection with another namespace, in a lease, or ending calls early when the signal asks. */
  within(scope: { namespace?: string; lease?: string; signal?: AbortSignal }): Containerd;
  close(): void;
}

function clientOf(caller: Caller): Containerd {
  return {
    address: caller.connection.address,
    namespace: caller.scope.namespace,
    containers: containers(caller),
    content: content(caller),
    cri: cri(caller),
    images: images(caller),
    leases: leases(caller),
    tasks: tasks(caller),
    snapshots: (snapshotter: string) => snapshots(caller, snapshotter),

    async diff(left: Mount[], right: Mount[], mediaType: string): Promise<Descriptor> {
      const answer = await diffService.call<{ diff: WireDescriptor }>(
        caller,
        'Diff',
        { left, right, mediaType },
        { action: 'compare the root file system with its image', deadlineMs: DIFF_DEADLINE_MS },
      );
      return fromWire(answer.diff);
    },
    async apply(layer: Descriptor, mounts: Mount[]): Promise<string> {
      const request = { diff: toWire(layer), mounts };
      const options = { action: `unpack the layer ${layer.digest}`, deadlineMs: DIFF_DEADLINE_MS };
      const answer = await diffService.call<{ applied: WireDescriptor }>(caller, 'Apply', request, options);
      return answer.applied.digest;
    },
    async namespaces(): Promise<string[]> {
      const action = 'list the namespaces of containerd';
      const answer = await namespaceService.call<{ namespaces: { name: string }[] }>(
        caller,
        'List',
        {},
        { action },
      );
      return answer.namespaces.map(({ name }) => name);
    },
    async version(): Promise<string> {
      const action = 'ask containerd for its version';
      return (await versionService.call<{ version: string }>(caller, 'Version', {}, { action })).version;
    },
    within(scope) {
      return clientOf({
        connection: caller.connection,
        scope: {
          namespace: scope.namespace ?? caller.scope.namespace,
          lease: scope.lease ?? caller.scope.lease,
        },
        signal: scope.signal ?? caller.signal,
      });
    },
    close() {
      caller.connection.close();
    },
  };
}

/** Fails with what to do if there is no socket at the address. The caller closes it. */
export async function createContainerd(options: ContainerdOptions): Promise<Containerd> {
  const connection = new Connection(options.address);
  try {
    await connection.check();
  } catch (error) {
    connection.close();
    throw error;
  }
  return clientOf({ connection, scope: { namespace: options.namespace }, signal: undefined });
}
