/**
 * Open files of /dev/shm that have lost the name they were opened by but keep another one. glibc's sem_open makes every
 * semaphore so: under a name of its own, which it links to the right one and removes. CRIU finds such a file by a name that
 * it makes for it (--link-remap) and, where the container goes on after the dump, removes again. It is saved as one more
 * name, so that the restore finds it; the restore removes it.
 */
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { ImageDir } from '../../checkpoint/criu/image-dir.ts';
import { type LinkedRemap, readLinkedRemaps } from '../../checkpoint/criu/remaps.ts';
import { SHM_DESTINATION } from '../../checkpoint/shm.ts';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';

const DELETED = ' (deleted)';

/** Inodes of one file system that processes have open under names which are gone, by the last part of those names. */
export type LostNames = Map<string, bigint>;

/** Another name that a file is to have, relative to the directory. */
export interface Alias {
  path: string;
  inode: bigint;
}

/** From /proc/PID/maps: device and inode come before the path. Source: proc_pid_maps(5). */
export function lostMappings(maps: string, device: string): LostNames {
  const lost: LostNames = new Map();
  for (const line of maps.split('\n')) {
    if (!line.endsWith(DELETED)) continue;
    const found = /^\S+ \S+ \S+ (\S+) (\d+) +(\/.*) \(deleted\)$/.exec(line);
    if (found?.[1] === device) lost.set(basename(found[3] ?? ''), BigInt(found[2] ?? 0));
  }
  return lost;
}

/** "major:minor" as in /proc/PID/maps. Source: the kernel's new_encode_dev, which stat(2) answers with. */
export function deviceName(dev: bigint): string {
  const major = (dev >> 8n) & 0xfffn;
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xfff00n);
  return [major, minor].map((part) => part.toString(16).padStart(2, '0')).join(':');
}

/** Of processes that stand still. */
export async function lostNamesOf(pids: readonly number[], directory: string): Promise<LostNames> {
  const { dev } = await stat(directory, { bigint: true });
  const device = deviceName(dev);
  const lost: LostNames = new Map();
  for (const pid of pids) {
    const maps = await readFile(`/proc/${pid}/maps`, 'utf8').catch(() => '');
    for (const [name, inode] of lostMappings(maps, device)) lost.set(name, inode);
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const path = `/proc/${pid}/fd/${fd}`;
      const target = await readlink(path).catch(() => '');
      if (!target.endsWith(DELETED)) continue;
      const info = await stat(path, { bigint: true }).catch(() => undefined);
      if (info?.dev === dev) lost.set(basename(target.slice(0, -DELETED.length)), info.ino);
    }
  }
  return lost;
}

/**
 * Names that CRIU will look for in /dev/shm. Throws where it would look elsewhere: those names are gone once the container
 * goes on.
 */
export async function aliasesOf(imagesDir: string, lost: LostNames): Promise<Alias[]> {
  await using images = await ImageDir.open(imagesDir);
  return (await readLinkedRemaps(images)).map((remap) => aliasOf(remap, lost));
}

function aliasOf({ name, remap }: LinkedRemap, lost: LostNames): Alias {
  const inode = lost.get(basename(name));
  if (dirname(remap) !== SHM_DESTINATION || inode === undefined)
    throw new ShimError(
      Code.failedPrecondition,
      `Cannot save the container: it has "${name}" open, which was removed but still has another name`,
    );
  return { path: basename(remap), inode };
}
