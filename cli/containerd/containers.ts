import { type Caller, serviceMethods } from './caller.ts';

const { call } = serviceMethods(
  'containers/v1/containers.proto',
  'containerd.services.containers.v1.Containers',
);

/** A container's record; whether it runs is its task's matter. */
export interface Container {
  id: string;
  labels: Readonly<Record<string, string>>;
  image: string;
  runtime: string;
  snapshotter: string;
  snapshotKey: string;
  /** The OCI runtime spec as JSON. */
  spec: Buffer;
}

interface WireContainer {
  id: string;
  labels: Record<string, string>;
  image: string;
  runtime: { name: string } | null;
  spec: { value: Buffer } | null;
  snapshotter: string;
  snapshotKey: string;
}

function fromWire(wire: WireContainer): Container {
  const { id, labels, image, snapshotter, snapshotKey } = wire;
  return {
    id,
    labels,
    image,
    snapshotter,
    snapshotKey,
    runtime: wire.runtime?.name ?? '',
    spec: wire.spec?.value ?? Buffer.alloc(0),
  };
}

export function containers(caller: Caller) {
  return {
    async get(id: string): Promise<Container> {
      const answer = await call<{ container: WireContainer }>(
        caller,
        'Get',
        { id },
        { action: `read the container ${id}` },
      );
      return fromWire(answer.container);
    },
    /** Filters in containerd's grammar (pkg/filters), for example `id~=^abc`; several mean or. */
    async list(filters: string[] = []): Promise<Container[]> {
      const answer = await call<{ containers: WireContainer[] }>(
        caller,
        'List',
        { filters },
        { action: 'list containers' },
      );
      return answer.containers.map(fromWire);
    },
  };
}
