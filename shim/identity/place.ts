/** Where a path of a container lies on the node before the container's own mounts are there. Pure. */
import { posix } from 'node:path';
import { bundlePaths } from '../task/bundle.ts';
import type { OciMount, OciSpec } from '../task/oci-spec.ts';

const { normalize, relative, resolve } = posix;

export interface Place {
  /** A directory that is trusted; nothing below it is. */
  root: string;
  path: string;
}

/**
 * In the root file system, or in the source of the bind mount that lies over it. Undefined where only the running
 * container has it (a tmpfs), where the pod mounts it read-only, and for a mount point itself.
 */
export function hostPlace(spec: OciSpec, bundle: string, path: string): Place | undefined {
  const over = mountOver(spec, path);
  if (!over)
    return { root: resolve(bundle, spec.root?.path ?? bundlePaths(bundle).rootfs), path: path.slice(1) };
  const options = over.options ?? [];
  const bind = options.includes('bind') || options.includes('rbind');
  const below = relative(normalize(over.destination), path);
  if (!bind || !over.source || options.includes('ro') || below === '') return undefined;
  return { root: over.source, path: below };
}

function mountOver(spec: OciSpec, path: string): OciMount | undefined {
  let found: OciMount | undefined;
  for (const mount of spec.mounts ?? []) {
    const destination = normalize(mount.destination).replace(/(?<=.)\/$/, '');
    const isOver = path === destination || path.startsWith(destination === '/' ? '/' : `${destination}/`);
    if (isOver && (!found || destination.length >= found.destination.length))
      found = { ...mount, destination };
  }
  return found;
}
