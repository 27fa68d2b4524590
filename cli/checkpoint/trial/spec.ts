/**
 * The OCI spec of a trial: the source container's, so that the same process may run, but cut off from everything that the
 * source talks to. Pure.
 */

interface Namespace {
  type: string;
  path?: string;
}

export interface BindMount {
  destination: string;
  source: string;
  readOnly: boolean;
}

interface SpecMount {
  destination: string;
  type?: string;
  source?: string;
  options?: string[];
}

/** What is read of a spec; everything else is kept as it is. */
export interface SourceSpec {
  process?: { terminal?: boolean };
  mounts?: SpecMount[];
  hooks?: unknown;
  annotations?: Record<string, string>;
  linux?: {
    namespaces?: Namespace[];
    cgroupsPath?: string;
    devices?: { path: string }[];
  };
}

const OWN_NAMESPACES = ['pid', 'network', 'ipc', 'uts', 'mount'];

/** Why no trial of such a container can be safe or can succeed; undefined if one can. */
export function trialObstacle(spec: SourceSpec): string | undefined {
  const namespaces = spec.linux?.namespaces ?? [];
  const find = (type: string) => namespaces.find((namespace) => namespace.type === type);
  if (find('user')) return 'it has a user namespace of its own';
  for (const type of OWN_NAMESPACES)
    if (!find(type)) return `it uses the ${type === 'uts' ? 'host name' : `${type} namespace`} of the host`;
  if (find('pid')?.path) return 'it shares its PID namespace with other containers';
  if (spec.process?.terminal) return 'it has a terminal';
  const gpu = [...(spec.linux?.devices ?? []).map(({ path }) => path), ...bindMounts(spec).map(sourceOf)];
  if (gpu.some((path) => path.startsWith('/dev/nvidia'))) return 'it uses a GPU';
  return undefined;
}

function sourceOf({ source }: BindMount): string {
  return source;
}

export function bindMounts(spec: SourceSpec): BindMount[] {
  return (spec.mounts ?? []).filter(isBind).map(({ destination, source = '', options = [] }) => ({
    destination,
    source,
    readOnly: options.includes('ro'),
  }));
}

function isBind({ type, options = [] }: SpecMount): boolean {
  return type === 'bind' || options.includes('bind') || options.includes('rbind');
}

export interface TrialChanges {
  id: string;
  /** Path of the network namespace, for a container that has joined one. */
  network: string;
  /** Sources of bind mounts by destination; the others keep theirs. */
  sources: ReadonlyMap<string, string>;
}

/**
 * Network, host name and IPC are its own. CRIU makes them anew from the images, but for a network that the dump has as an
 * external one: that has to be given from outside. Annotations would make the shim of the source's pod run it, and hooks
 * act outside of the container.
 */
export function trialSpec(spec: SourceSpec, { id, network, sources }: TrialChanges): SourceSpec {
  const { hooks: _hooks, ...rest } = spec;
  return {
    ...rest,
    annotations: {},
    ...(spec.mounts
      ? {
          mounts: spec.mounts.map((mount) => {
            const source = isBind(mount) ? sources.get(mount.destination) : undefined;
            return source === undefined ? mount : { ...mount, source };
          }),
        }
      : {}),
    linux: {
      ...spec.linux,
      namespaces: (spec.linux?.namespaces ?? []).map(({ type, path }) =>
        path && type === 'network' ? { type, path: network } : { type },
      ),
      cgroupsPath: trialCgroup(spec.linux?.cgroupsPath, id),
    },
  };
}

/** Beside all pods: one below the source's pod would have to share its memory limit. */
function trialCgroup(source: string | undefined, id: string): string {
  return source !== undefined && /^[^/:]*\.slice:/.test(source) ? `system.slice:thaw:${id}` : `/${id}`;
}
