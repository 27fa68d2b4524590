/** The files of one cached checkpoint: made sparse at full size, opened while chunks are written to them. */
import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IndexFile } from '../../checkpoint/index-format.ts';
import { native } from '../../native/index.ts';
import { writeBackGently } from './write-back.ts';

const deps = {
  writeBack: native.writeBack,
  clock: () => performance.now(),
  sleep: (ms: number) => sleep(ms),
};

interface OpenFile {
  handle: Promise<FileHandle>;
  users: number;
}

export class ImageFiles {
  readonly directory: string;
  readonly #open = new Map<string, OpenFile>();

  constructor(directory: string) {
    this.directory = directory;
  }

  get inUse(): boolean {
    return this.#open.size > 0;
  }

  /** Whether all of them are here, with the sizes they must have. */
  async exist(files: readonly IndexFile[]): Promise<boolean> {
    for (const { name, size } of files) {
      const found = await lstat(join(this.directory, name), { bigint: true }).catch(() => undefined);
      if (!found?.isFile() || found.size !== size) return false;
    }
    return (await lstat(this.directory).catch(() => undefined)) !== undefined;
  }

  /**
   * Makes every file anew, all at once. Nobody may have those that were here mapped: what is fetched would never get
   * to see them.
   */
  async create(files: readonly IndexFile[]): Promise<void> {
    const fresh = `${this.directory}.new`;
    for (const path of [this.directory, fresh]) await rm(path, { recursive: true, force: true });
    await mkdir(fresh, { mode: 0o700 });
    for (const { name, size } of files) {
      const handle = await open(join(fresh, name), 'wx', 0o600);
      try {
        // The index bounds a file's size far below 2^53.
        await handle.truncate(Number(size));
      } finally {
        await handle.close();
      }
    }
    await rename(fresh, this.directory);
  }

  /** Runs `work` with the file's descriptor; it stays open while anybody uses it. */
  async use<T>(name: string, work: (fd: number) => Promise<T>): Promise<T> {
    let file = this.#open.get(name);
    if (!file) {
      file = {
        handle: open(join(this.directory, name), constants.O_WRONLY | constants.O_NOFOLLOW),
        users: 0,
      };
      this.#open.set(name, file);
    }
    file.users++;
    try {
      return await work((await file.handle).fd);
    } finally {
      if (--file.users === 0) {
        this.#open.delete(name);
        await file.handle.then((handle) => handle.close()).catch(() => {});
      }
    }
  }

  /** Puts contents on disk at a pace that leaves room for others; a later `sync` is short then. */
  async writeBack(files: readonly IndexFile[], isWanted: () => boolean): Promise<void> {
    for (const { name, size } of files) {
      const handle = await open(join(this.directory, name), constants.O_RDONLY | constants.O_NOFOLLOW);
      try {
        await writeBackGently(handle.fd, size, isWanted, deps);
      } finally {
        await handle.close();
      }
    }
  }

  /** Waits until contents and names of all files are on disk. */
  async sync(files: readonly IndexFile[]): Promise<void> {
    for (const { name } of files) await syncPath(join(this.directory, name));
    await syncPath(this.directory);
  }
}

/** fsync(2) of a file or directory. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
