/** Saves /dev/shm beside CRIU's images. The container stands still meanwhile; others of its pod may not. */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  isRelativePath,
  SHM_DATA_FILE,
  SHM_LIST_FILE,
  type ShmEntry,
  shmLimits,
  writeShmList,
} from '../../checkpoint/shm.ts';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import { copyBytes } from './copy.ts';
import { HeldDir } from './held-dir.ts';
import type { Alias } from './links.ts';

export interface SavedShm {
  entries: number;
  /** Of all files. */
  bytes: number;
  /** Paths of sockets, devices and the like: nothing that a copy could stand for. */
  leftOut: string[];
}

/** Files begin at pages, so that a page of zeros can be left out of the image. */
const ALIGN = 4096;

interface Walk {
  entries: ShmEntry[];
  /** First name of each file, by inode. */
  names: Map<bigint, string>;
  leftOut: string[];
  data: FileHandle;
  /** End of the data file. */
  end: number;
}

/** Writes nothing where the directory is empty. `aliases` are names that files are to have besides. */
export async function saveShm(
  source: string,
  imagesDir: string,
  aliases: readonly Alias[] = [],
): Promise<SavedShm> {
  const root = await HeldDir.open(source);
  try {
    if ((await readdir(root.self)).length === 0) return { entries: 0, bytes: 0, leftOut: [] };
    const data = await open(join(imagesDir, SHM_DATA_FILE), 'w', 0o600);
    try {
      const walk: Walk = { entries: [], names: new Map(), leftOut: [], data, end: 0 };
      await saveDir(root, '', walk);
      addAliases(walk, aliases);
      await data.truncate(walk.end);
      await writeFile(join(imagesDir, SHM_LIST_FILE), writeShmList(walk.entries), { mode: 0o600 });
      return { entries: walk.entries.length, bytes: walk.end, leftOut: walk.leftOut };
    } finally {
      await data.close();
    }
  } finally {
    await root.close();
  }
}

function addAliases({ entries, names }: Walk, aliases: readonly Alias[]): void {
  for (const { path, inode } of aliases) {
    const to = names.get(inode);
    if (to === undefined)
      throw new ShimError(
        Code.failedPrecondition,
        'Cannot save /dev/shm: a file that is open there has no name in it',
      );
    // CRIU has left it there if the container ends with the dump.
    if (!entries.some((entry) => entry.path === path)) entries.push({ kind: 'link', path, to });
  }
}

async function saveDir(dir: HeldDir, prefix: string, walk: Walk): Promise<void> {
  for (const name of (await readdir(dir.self)).sort()) {
    const path = prefix + name;
    // A name that is no UTF-8 cannot be listed; it was decoded to this.
    if (!isRelativePath(path) || name.includes('\ufffd')) walk.leftOut.push(path);
    // What goes away meanwhile is a sibling's: it is as if it had gone a moment before.
    else await unlessGone(saveEntry(dir, name, path, walk));
    if (walk.entries.length > shmLimits.entries)
      throw new ShimError(
        Code.resourceExhausted,
        `Cannot save /dev/shm: it has more than ${shmLimits.entries} entries`,
      );
  }
}

async function saveEntry(dir: HeldDir, name: string, path: string, walk: Walk): Promise<void> {
  const info = await lstat(dir.at(name), { bigint: true });
  const owner = { uid: Number(info.uid), gid: Number(info.gid) };
  if (info.isSymbolicLink()) {
    walk.entries.push({ kind: 'symlink', path, ...owner, target: await readlink(dir.at(name)) });
  } else if (info.isDirectory()) {
    const child = await dir.child(name);
    try {
      const mode = Number(info.mode) & 0o1777;
      walk.entries.push({ kind: 'directory', path, mode, ...owner });
      await saveDir(child, `${path}/`, walk);
    } finally {
      await child.close();
    }
  } else if (info.isFile()) {
    await saveFile(dir.at(name), path, walk);
  } else {
    walk.leftOut.push(path);
  }
}

async function saveFile(source: string, path: string, walk: Walk): Promise<void> {
  const file = await open(source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const info = await file.stat({ bigint: true });
    if (!info.isFile()) {
      walk.leftOut.push(path);
      return;
    }
    const first = walk.names.get(info.ino);
    if (first !== undefined) {
      walk.entries.push({ kind: 'link', path, to: first });
      return;
    }
    walk.names.set(info.ino, path);
    const offset = Math.ceil(walk.end / ALIGN) * ALIGN;
    // One that a sibling has cut off meanwhile is saved as long as it is now.
    const size = await copyBytes({ file, at: 0 }, { file: walk.data, at: offset }, Number(info.size));
    const mode = Number(info.mode) & 0o1777;
    walk.entries.push({
      ...{ kind: 'file', path, mode, uid: Number(info.uid), gid: Number(info.gid), offset, size },
    });
    walk.end = offset + size;
  } finally {
    await file.close();
  }
}

async function unlessGone(step: Promise<void>): Promise<void> {
  try {
    await step;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ELOOP' && code !== 'ENOTDIR') throw error;
  }
}
