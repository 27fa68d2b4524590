import { type Caller, serviceMethods } from './caller.ts';
import type { AnyMessage } from './types.ts';

const { call } = serviceMethods(
  'containers/v1/containers.proto',
  'containerd.services.containers.v1.Containers',
);

/** Source: containerd's pkg/oci and typeurl. */
const SPEC_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Spec';

/** A container's record; whether it runs is its task's matter. */
export interface Container {
  id: string;
  labels: Readonly<Record<string, string>>;
  image: string;
  runtime: string;
  /** What the runtime is told for each of its tasks. */
  runtimeOptions: AnyMessage | undefined;
  snapshotter: string;
  snapshotKey: string;
  /** The OCI runtime spec as JSON. */
  spec: Buffer;
}

interface WireContainer {
  id: string;
  labels: Record<string, string>;
  image: string;
  runtime: { name: string; options?: AnyMessage | null } | null;
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
    runtimeOptions: wire.runtime?.options ?? undefined,
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
    /** A record alone: its snapshot is there already, and nothing runs yet. */
    async create(
      container: Omit<Container, 'runtimeOptions'> & Partial<Pick<Container, 'runtimeOptions'>>,
    ): Promise<void> {
      const { spec, runtime, runtimeOptions: options, ...rest } = container;
      const named = options ? { name: runtime, options } : { name: runtime };
      const wire = { ...rest, runtime: named, spec: { type_url: SPEC_TYPE, value: spec } };
      await call(caller, 'Create', { container: wire }, { action: `make the container ${container.id}` });
    },
    async remove(id: string): Promise<void> {
      await call(caller, 'Delete', { id }, { action: `remove the container ${id}` });
    },
  };
}
