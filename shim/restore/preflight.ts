/**
 * Whether a checkpoint can run in this container on this node. Pure; every mismatch is reported, in the user's words,
 * so that one look at the log is enough.
 */
import type { CheckpointFacts, Surroundings } from '../../checkpoint/facts.ts';
import type { HostFacts, MountFacts } from '../../checkpoint/host-facts.ts';
import { surroundingDifferences } from '../surroundings.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { launchDifferences } from './launch-differences.ts';
import { type Exceptions, NO_EXCEPTIONS } from './policy.ts';

export interface Live {
  launch: CheckpointFacts['launch'];
  host: HostFacts;
  mounts: MountFacts[];
  /** Bytes; undefined if the container has no limit. */
  memoryLimit?: number | undefined;
  /** What the pod accepts. */
  except?: Exceptions;
  surroundings?: Surroundings;
}

/** Older CRIU cannot restore on these kernels: vvar_vclock, and a stricter change of mount propagation. */
const CRIU_FOR_KERNEL = [
  { kernel: '6.13', criu: '4.1' },
  { kernel: '6.16', criu: '4.1.1' },
] as const;
/** The first whose restore gives tasks the namespaces of a pod. */
const OLDEST_RUNC = '1.1';

export function preflight(saved: CheckpointFacts, live: Live): string[] {
  const { except = NO_EXCEPTIONS } = live;
  return [
    ...launchDifferences(saved.launch, live.launch, except),
    ...hostDifferences(saved.host, live.host, except),
    ...mountDifferences(saved.mounts, live.mounts),
    ...memoryDifferences(saved.memoryBytes, live.memoryLimit),
    ...(saved.surroundings && live.surroundings
      ? surroundingDifferences(saved.surroundings, live.surroundings)
      : []),
  ];
}

function hostDifferences(saved: HostFacts, live: HostFacts, except: Exceptions): string[] {
  const out: string[] = [];
  if (saved.arch !== live.arch) out.push(`the checkpoint is for ${saved.arch}, this node is ${live.arch}`);
  const missing = saved.cpuFlags.filter((flag) => !live.cpuFlags.includes(flag));
  if (missing.length > 0) out.push(`this node's CPU lacks ${missing.join(', ')}`);
  if (compareVersions(live.criu, saved.criu) < 0) {
    out.push(`the checkpoint was made by CRIU ${saved.criu}, this node has the older ${live.criu}`);
  }
  const needed = CRIU_FOR_KERNEL.findLast(({ kernel }) => compareVersions(live.kernel, kernel) >= 0);
  if (needed && compareVersions(live.criu, needed.criu) < 0)
    out.push(`Linux ${live.kernel} needs CRIU ${needed.criu}, this node has ${live.criu}`);
  if (compareVersions(live.runc, OLDEST_RUNC) < 0)
    out.push(`a restore needs runc ${OLDEST_RUNC}, this node has ${live.runc}`);
  // What a process found out about its kernel stays true on a newer one.
  if (!except.kernel && compareVersions(series(live.kernel), series(saved.kernel)) < 0)
    out.push(`the checkpoint was made on Linux ${saved.kernel}, this node has the older ${live.kernel}`);
  if (saved.cgroup !== live.cgroup) {
    out.push(`the checkpoint was made under cgroup ${saved.cgroup}, this node has ${live.cgroup}`);
  }
  return out;
}

/** CRIU recreates the saved mounts: one that is missing now cannot be filled, one that is new would not be there. */
function mountDifferences(saved: readonly MountFacts[], live: readonly MountFacts[]): string[] {
  const out: string[] = [];
  const now = new Map(live.map((mount) => [mount.destination, mount]));
  const then = new Map(saved.map((mount) => [mount.destination, mount]));
  for (const [destination, was] of then) {
    const is = now.get(destination);
    if (!is) out.push(`nothing is mounted at ${destination} now`);
    else if (is.type !== was.type) out.push(`the mount at ${destination} was ${was.type}, now ${is.type}`);
    else if (is.readOnly !== was.readOnly) {
      out.push(`the mount at ${destination} was ${access(was)}, now ${access(is)}`);
    }
  }
  for (const destination of now.keys())
    if (!then.has(destination)) out.push(`the mount at ${destination} is new`);
  return out;
}

/** All of it would be charged to the container before it could give any of it back. */
function memoryDifferences(bytes: number, limit: number | undefined): string[] {
  if (limit === undefined || bytes <= limit) return [];
  const mib = (value: number) => `${Math.ceil(value / 2 ** 20)} MiB`;
  return [`the checkpoint has ${mib(bytes)} of memory, the container's limit is ${mib(limit)}`];
}

/** Without what distributions add to it: features come with these two numbers. */
function series(kernel: string): string {
  return /^\d+\.\d+/.exec(kernel)?.[0] ?? kernel;
}

/** Bytes; undefined without a limit. */
export function memoryLimitOf(spec: OciSpec): number | undefined {
  const limit = spec.linux?.resources?.memory?.limit;
  return limit !== undefined && limit > 0 ? limit : undefined;
}

function access(mount: MountFacts): string {
  return mount.readOnly ? 'read-only' : 'writable';
}

/** Dotted numbers; what is not a number counts as 0. */
export function compareVersions(a: string, b: string): number {
  const parts = (version: string) => version.split(/[^0-9]+/).map((part) => Number(part) || 0);
  const left = parts(a);
  const right = parts(b);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  return 0;
}

/** Why nothing can be restored into the namespaces that the pod has, in the user's words. */
export function namespaceObstacles(spec: OciSpec): string[] {
  const { namespaces } = spec.linux ?? {};
  if (!namespaces) return [];
  const own = (type: string) => namespaces.find((namespace) => namespace.type === type);
  const pid = own('pid');
  const others = pid ? 'others of its pod (shareProcessNamespace)' : 'the node (hostPID)';
  return [
    ...(hasUserNamespace(spec) ? ['the container has a user namespace of its own'] : []),
    // Processes get the ids they had, and those of a shared namespace may be taken.
    ...(!pid || pid.path ? [`the container shares its process ids with ${others}`] : []),
    ...(own('ipc') ? [] : ['the container uses the IPC namespace and /dev/shm of the node (hostIPC)']),
  ];
}

/**
 * The user ids in the images are those of the namespace that they were taken in, and CRIU would put them into whichever it
 * is told to join: what they would be worth outside of the container cannot be compared.
 */
export function hasUserNamespace(spec: OciSpec): boolean {
  return spec.linux?.namespaces?.some(({ type }) => type === 'user') ?? false;
}
