/**
 * Whether a checkpoint can run in this container on this node. Pure; every mismatch is reported, in the user's words,
 * so that one look at the log is enough.
 */
import type { CheckpointFacts } from '../../checkpoint/facts.ts';
import type { HostFacts, MountFacts } from '../host-facts.ts';
import { launchDifferences } from '../launch.ts';
import type { OciSpec } from '../task/oci-spec.ts';

export interface Live {
  launch: CheckpointFacts['launch'];
  host: HostFacts;
  mounts: MountFacts[];
}

export function preflight(saved: CheckpointFacts, live: Live): string[] {
  return [
    ...launchDifferences(saved.launch, live.launch),
    ...hostDifferences(saved.host, live.host),
    ...mountDifferences(saved.mounts, live.mounts),
  ];
}

function hostDifferences(saved: HostFacts, live: HostFacts): string[] {
  const out: string[] = [];
  if (saved.arch !== live.arch) out.push(`the checkpoint is for ${saved.arch}, this node is ${live.arch}`);
  const missing = saved.cpuFlags.filter((flag) => !live.cpuFlags.includes(flag));
  if (missing.length > 0) out.push(`this node's CPU lacks ${missing.join(', ')}`);
  if (compareVersions(live.criu, saved.criu) < 0) {
    out.push(`the checkpoint was made by CRIU ${saved.criu}, this node has the older ${live.criu}`);
  }
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

/**
 * The user ids in the images are those of the namespace that they were taken in, and CRIU would put them into whichever it
 * is told to join: what they would be worth outside of the container cannot be compared.
 */
export function hasUserNamespace(spec: OciSpec): boolean {
  return spec.linux?.namespaces?.some(({ type }) => type === 'user') ?? false;
}
