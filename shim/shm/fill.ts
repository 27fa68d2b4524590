/**
 * Puts what was in /dev/shm at the checkpoint into the pod's, before CRIU opens and maps it there. The directory is the
 * pod's: nothing that somebody else has made there is overwritten, and what was put there can be taken away again.
 */
import { constants, type Stats } from 'node:fs';
import {
  type FileHandle,
  lchown,
  link,
  lstat,
  mkdir,
  open,
  readlink,
  rmdir,
  statfs,
  symlink,
  unlink,
} from 'node:fs/promises';
import { join } from 'node:path';
import { ImageDir } from '../../checkpoint/criu/image-dir.ts';
import {
  readShmList,
  SHM_DATA_FILE,
  SHM_DESTINATION,
  SHM_LIST_FILE,
  type ShmEntry,
  shmBytes,
  shmLimits,
} from '../../checkpoint/shm.ts';
import { Code } from '../../proto/status.ts';
import { RestoreError } from '../restore/error.ts';
import { copyBytes, sameBytes } from './copy.ts';
import { HeldDir } from './held-dir.ts';

export interface FilledShm {
  /** Names that were put there. */
  readonly count: number;
  /** Removes them, but for those that stand for something else by now. */
  takeAway(): Promise<void>;
}

const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

interface Put {
  path: string;
  isDirectory: boolean;
  dev: number;
  ino: number;
}

/** Undefined if the checkpoint has nothing of /dev/shm. All or nothing. */
export async function fillShm(imagesDir: string, target: string): Promise<FilledShm | undefined> {
  await using images = await ImageDir.open(imagesDir);
  if (!(await images.names()).includes(SHM_LIST_FILE)) return undefined;
  const data = await open(join(imagesDir, SHM_DATA_FILE), READ);
  try {
    const info = await data.stat();
    const list = await images.read(SHM_LIST_FILE, shmLimits.listBytes);
    const entries = readShmList(list, info.isFile() ? info.size : 0);
    await checkRoom(entries, target);
    return await fill(entries, data, target);
  } finally {
    await data.close();
  }
}

async function checkRoom(entries: readonly ShmEntry[], target: string): Promise<void> {
  const needed = shmBytes(entries);
  const { bavail, bsize } = await statfs(target);
  if (needed > bavail * bsize)
    throw new RestoreError(
      Code.resourceExhausted,
      `the checkpoint has ${needed} bytes in ${SHM_DESTINATION}, and ${bavail * bsize} are free there; give the pod a larger one (an emptyDir with medium: Memory)`,
    );
}

async function fill(entries: readonly ShmEntry[], data: FileHandle, target: string): Promise<FilledShm> {
  const put: Put[] = [];
  const takeAway = () => takeAll(put, target);
  const root = await HeldDir.open(target);
  try {
    for (const entry of entries) {
      const made = await root.within(entry.path, (dir, name) => place(entry, dir, name, root, data));
      if (made) put.push({ path: entry.path, isDirectory: made.isDirectory(), dev: made.dev, ino: made.ino });
    }
  } catch (cause) {
    await takeAway();
    throw cause;
  } finally {
    await root.close();
  }
  return { count: put.length, takeAway };
}

/** What it made; undefined if just that was there already. */
async function place(
  entry: ShmEntry,
  dir: HeldDir,
  name: string,
  root: HeldDir,
  data: FileHandle,
): Promise<Stats | undefined> {
  const at = dir.at(name);
  try {
    switch (entry.kind) {
      case 'directory':
        await mkdir(at, { mode: 0o700 });
        await inside(dir, name, async ({ handle }) => {
          await handle.chown(entry.uid, entry.gid);
          await handle.chmod(entry.mode);
        });
        break;
      case 'file':
        return await makeFile(entry, at, data);
      case 'symlink':
        await symlink(entry.target, at);
        await lchown(at, entry.uid, entry.gid);
        break;
      case 'link':
        // link(2) does not follow a link at the end of either name.
        await root.within(entry.to, (source, sourceName) => link(source.at(sourceName), at));
        break;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if (await isThere(entry, at, root, data)) return undefined;
    throw new RestoreError(
      Code.alreadyExists,
      `${SHM_DESTINATION}/${entry.path} is there already and not what the checkpoint has: another container of the pod has made it, or an earlier run of this one`,
    );
  }
  return lstat(at);
}

async function makeFile(entry: ShmEntry & { kind: 'file' }, at: string, data: FileHandle): Promise<Stats> {
  const { O_CREAT, O_EXCL, O_RDWR, O_NOFOLLOW } = constants;
  const file = await open(at, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW, 0o600);
  try {
    await file.truncate(entry.size);
    const copied = await copyBytes({ file: data, at: entry.offset }, { file, at: 0 }, entry.size);
    if (copied !== entry.size)
      throw new RestoreError(Code.dataLoss, `"${SHM_DATA_FILE}" of the checkpoint is cut off`);
    // Before the mode: a change of owner takes bits of it away.
    await file.chown(entry.uid, entry.gid);
    await file.chmod(entry.mode);
    return await file.stat();
  } catch (error) {
    await unlink(at);
    throw error;
  } finally {
    await file.close();
  }
}

async function inside(dir: HeldDir, name: string, use: (child: HeldDir) => Promise<void>): Promise<void> {
  const child = await dir.child(name);
  try {
    await use(child);
  } finally {
    await child.close();
  }
}

/** Whether the same is there already: a sibling that was filled from a checkpoint too, or loads the same. */
async function isThere(entry: ShmEntry, at: string, root: HeldDir, data: FileHandle): Promise<boolean> {
  const info = await lstat(at);
  switch (entry.kind) {
    case 'directory':
      return info.isDirectory();
    case 'symlink':
      return info.isSymbolicLink() && (await readlink(at)) === entry.target;
    case 'link': {
      const other = await root.within(entry.to, (dir, name) => lstat(dir.at(name)));
      return other.ino === info.ino && other.dev === info.dev;
    }
    case 'file': {
      if (!info.isFile() || info.size !== entry.size || (info.mode & 0o7777) !== entry.mode) return false;
      if (info.uid !== entry.uid || info.gid !== entry.gid) return false;
      const file = await open(at, READ);
      try {
        return await sameBytes({ file: data, at: entry.offset }, { file, at: 0 }, entry.size);
      } finally {
        await file.close();
      }
    }
  }
}

async function takeAll(put: Put[], target: string): Promise<void> {
  const root = await HeldDir.open(target).catch(ignoreGone);
  if (!root) return;
  try {
    for (const one of put.splice(0).reverse()) {
      const remove = async (dir: HeldDir, name: string) => {
        const info = await lstat(dir.at(name));
        if (info.ino !== one.ino || info.dev !== one.dev) return;
        await (one.isDirectory ? rmdir(dir.at(name)) : unlink(dir.at(name)));
      };
      await root.within(one.path, remove).catch(ignoreGone);
    }
  } finally {
    await root.close();
  }
}

/** Gone, or in use by somebody else: a directory with other files, one that has become a link. */
function ignoreGone(error: unknown): undefined {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (!['ENOENT', 'ENOTEMPTY', 'ENOTDIR', 'ELOOP'].includes(code)) throw error;
}
