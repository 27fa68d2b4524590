/** Processes of a cgroup and of all below it. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CgroupPlace } from './locate.ts';

/** runc lists those of the devices hierarchy on v1. */
const LISTED = ['devices', 'pids', 'memory', 'name=systemd'];

export function listedDir(place: CgroupPlace): string | undefined {
  if (place.version === 'v2') return place.dir;
  const name = LISTED.find((controller) => place.dirs.has(controller));
  return name === undefined ? [...place.dirs.values()][0] : place.dirs.get(name);
}

/**
 * Pids in the reader's namespace, in no order. A cgroup that goes meanwhile has none, nor has a threaded one (v2): its
 * processes are listed above it.
 */
export async function pidsBelow(dir: string): Promise<number[]> {
  const [text, entries] = await Promise.all([
    present(readFile(join(dir, 'cgroup.procs'), 'utf8'), ''),
    present(readdir(dir, { withFileTypes: true }), []),
  ]);
  const own = text.split('\n').filter(Boolean).map(Number);
  const children = entries.filter((entry) => entry.isDirectory());
  const nested = await Promise.all(children.map((child) => pidsBelow(join(dir, child.name))));
  return [...own, ...nested.flat()];
}

const ABSENT = new Set(['ENOENT', 'ENODEV', 'EOPNOTSUPP']);

async function present<Value>(read: Promise<Value>, otherwise: Value): Promise<Value> {
  try {
    return await read;
  } catch (error) {
    if (ABSENT.has((error as NodeJS.ErrnoException).code ?? '')) return otherwise;
    throw error;
  }
}
