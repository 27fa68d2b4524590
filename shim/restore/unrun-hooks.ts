/** Hooks of a pod that no restore can run. Pure. */
import { basename } from 'node:path';
import type { OciHook, OciSpec } from '../task/oci-spec.ts';

/**
 * Both belong into the mount namespace of a process that is being started: before it enters its root, and before its
 * program replaces runc ("POSIX-platform Hooks" in config.md of the OCI runtime specification). CRIU makes namespace,
 * root and process in one go, with nobody in between, and runc runs neither at a restore.
 */
const KINDS = ['createContainer', 'startContainer'] as const;

const NVIDIA: readonly string[] = ['nvidia-cdi-hook', 'nvidia-ctk'];
/**
 * What NVIDIA's CDI hooks do to the root file system, which was saved with it: links, modes, the loader's cache. What
 * the last one mounts a restored container goes without (shim/nvidia-mounts.ts).
 */
const HARMLESS: ReadonlySet<string> = new Set([
  'chmod',
  'create-soname-symlinks',
  'create-symlinks',
  'enable-cuda-compat',
  'update-ldcache',
  'disable-device-node-modification',
]);

/** A reason for each of them, in the user's words; what else they do, in the network say, nobody can tell. */
export function unrunHooks({ hooks }: Pick<OciSpec, 'hooks'>): string[] {
  return KINDS.flatMap((kind) =>
    (hooks?.[kind] ?? [])
      .filter((hook) => !isHarmless(hook))
      .map(({ path }) => `the container has the ${kind} hook ${path}, which no restore runs`),
  );
}

function isHarmless({ path, args = [] }: OciHook): boolean {
  const [, first, second] = args;
  return NVIDIA.includes(basename(path)) && HARMLESS.has((first === 'hook' ? second : first) ?? '');
}
