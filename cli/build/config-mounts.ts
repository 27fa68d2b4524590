/**
 * Config maps and secrets of the pods, laid out as a kubelet has them: so the shim knows them for such, and what they hold is part
 * of the launch fingerprint.
 */
import { cp, lstat, mkdir, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import type { BuildSpec } from './spec.ts';

/** Of one; Kubernetes makes none larger than 1 MiB, and shims take none larger than this for such. */
const MAX_BYTES = 4 << 20;

/** The same file with copies below `dir` in the place of their sources. Rejects for what no config map can hold. */
export async function stageConfigs(spec: BuildSpec, dir: string): Promise<BuildSpec> {
  const mounts = await Promise.all(
    spec.mounts.map(async (mount, number) => {
      if (!mount.config) return mount;
      const source = join(dir, 'pods/build/volumes/kubernetes.io~configmap', `${number}`);
      await copyConfig(mount.source, source);
      return { ...mount, source, read_only: true };
    }),
  );
  return { ...spec, mounts };
}

async function copyConfig(from: string, to: string): Promise<void> {
  const size = (await stat(from)).isDirectory() ? await sizeOf(from) : undefined;
  if (size === undefined || size > MAX_BYTES)
    throw new CliError(
      Code.invalidArgument,
      `Cannot mount ${from} as a config map: it must be a directory of at most ${MAX_BYTES >> 20} MiB`,
    );
  await mkdir(to, { recursive: true });
  // Where it is one of a kubelet's itself its names are links into directories of which nobody is to know.
  await cp(from, to, {
    recursive: true,
    dereference: true,
    filter: (path) => path === from || !basename(path).startsWith('..'),
  });
}

async function sizeOf(dir: string): Promise<number> {
  const names = (await readdir(dir)).filter((name) => !name.startsWith('..'));
  const sizes = await Promise.all(
    names.map(async (name) => {
      const path = join(dir, name);
      const info = await stat(path);
      // A link to a directory above would have no end.
      if (info.isDirectory())
        return (await lstat(path)).isSymbolicLink() ? Number.POSITIVE_INFINITY : sizeOf(path);
      return info.size;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
