/**
 * What NVIDIA's tools mount into a container beside what its spec says, by hooks that run before it starts. CRIU knows
 * nothing of it, and no hook of that kind runs at a restore. Pure.
 */
import { basename } from 'node:path';
import { mountPointsBelow } from './mounts/mountinfo.ts';
import type { OciSpec } from './task/oci-spec.ts';

export interface HookMounts {
  /** Nobody needs them: a dump leaves them out, and the restored container has none. */
  needless: string[];
  /** Files that the container works with, and of which nobody can tell a restore where they are. */
  needed: string[];
}

/**
 * With devices by CDI a hook keeps the driver from making device nodes (nvidia-cdi-hook disable-device-node-modification):
 * a file of a tmpfs below the first lies over the driver's params below the second. Legacy mode mounts there too.
 * A container may choose names, and these go into CRIU's configuration, so they are plain ones.
 */
const NEEDLESS = /^\/(?:(?:var\/)?run\/nvidia-ctk-hook|proc\/driver\/nvidia)(?:\/[\w.:-]+)*$/;
const NEEDED = /nvidia|libcuda/;
/** What makes the mounts of legacy mode: its present name and the one before. */
const LEGACY_HOOKS: readonly string[] = ['nvidia-container-runtime-hook', 'nvidia-container-toolkit'];

/** `mountinfo` is that of a process of the container, seen from its root. */
export function hookMounts(
  mountinfo: string,
  { mounts = [], linux }: Pick<OciSpec, 'mounts' | 'linux'>,
): HookMounts {
  const paths = [
    ...mounts.map(({ destination }) => destination),
    ...(linux?.devices ?? []).map(({ path }) => path),
  ];
  // By their last names too: a spec may name a file through a link such as /lib64.
  const known = new Set([...paths, ...paths.map((path) => basename(path))]);
  const others = mountPointsBelow(mountinfo, '').filter(
    (point) => !known.has(point) && !known.has(basename(point)),
  );
  return {
    needless: others.filter((point) => NEEDLESS.test(point)),
    needed: others.filter((point) => !NEEDLESS.test(point) && NEEDED.test(point)),
  };
}

const ADVICE = 'give GPUs by CDI, or set mode = "cdi" in /etc/nvidia-container-runtime/config.toml';

/** Why a container with these mounts cannot be saved, in the user's words. */
export function savingObstacle({ needed }: HookMounts): string | undefined {
  const [first] = needed;
  if (first === undefined) return undefined;
  const more = needed.length > 1 ? ` and ${needed.length - 1} more` : '';
  return `a hook has mounted ${first}${more} (nvidia-container-runtime in legacy mode), which a restore could not mount again; ${ADVICE}`;
}

/** Why nothing can be restored into a container that gets its GPU so. */
export function hookObstacles({ hooks }: Pick<OciSpec, 'hooks'>): string[] {
  const early = [...(hooks?.prestart ?? []), ...(hooks?.createRuntime ?? [])];
  if (!early.some(({ path }) => LEGACY_HOOKS.includes(basename(path)))) return [];
  return [
    `the container gets the files of its GPU from a hook (nvidia-container-runtime in legacy mode), which a restore cannot use; ${ADVICE}`,
  ];
}
