/** Disk use of a directory tree. Source: containerd, continuity/fs, DiskUsage. */
import { lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Usage } from './store/index.ts';

/** Blocks of stat(2) are 512 bytes whatever the file system's block size is. */
const BLOCK = 512n;

/**
 * Allocated bytes and inodes of everything below `root`, and of `root`. What vanishes meanwhile does not count: an
 * active snapshot is in use.
 */
export async function diskUsage(root: string): Promise<Usage> {
  const seen = new Set<string>();
  let size = 0n;
  let inodes = 0n;
  const pending = [root];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const stat = await ignoreGone(lstat(path, { bigint: true }));
    if (!stat) continue;
    // Only what has several names can be met twice.
    if (stat.nlink > 1n && !stat.isDirectory()) {
      const identity = `${stat.dev}:${stat.ino}`;
      if (seen.has(identity)) continue;
      seen.add(identity);
    }
    size += stat.blocks * BLOCK;
    inodes++;
    if (!stat.isDirectory()) continue;
    const directory = await ignoreGone(opendir(path, { bufferSize: 256 }));
    if (!directory) continue;
    for await (const entry of directory) pending.push(join(path, entry.name));
  }
  return { size, inodes };
}

async function ignoreGone<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
