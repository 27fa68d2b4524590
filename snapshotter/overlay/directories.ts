/**
 * Directories of snapshots: `snapshots/<id>/{fs,work}`. One is there before its row is written, and flushed before a row
 * says that it is committed: of other rows a power failure can take it, and the next start makes it again, empty. What has no
 * row is an orphan and goes. A new one gets its name last, and an old one with something in it loses it first, so that no half
 * of a tree ever has a valid name.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, constants, fsync, openSync, renameSync, statSync } from 'node:fs';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Addon } from '../../native/index.ts';
import { CountedFlush } from '../counted-flush.ts';
import { explainFullDisk } from '../error.ts';
import { RecentNames } from '../recent-names.ts';
import { type FileCall, FileCalls } from './file-calls.ts';
import type { Owner } from './id-map.ts';
import { fsDirectory, workDirectory } from './mounts.ts';

/** One that is not whole yet. */
const NEW = 'new-';
const GONE = 'gone-';
const WORK_MODE = 0o711;

const flush = promisify(fsync);

export interface DirectoryLayout {
  /** Before it is recorded, as for a committed snapshot. */
  flushed: boolean;
  work: boolean;
  /** Its root's owner and mode are taken over. */
  parent: number | undefined;
  /** Wins over the parent's. */
  owner?: Owner | undefined;
  /** Beside `fs`. */
  files?: Readonly<Record<string, Uint8Array>>;
  /** Mounts something on `fs`. */
  mount?: ((directory: string) => Promise<void>) | undefined;
}

export class Directories {
  readonly path: string;
  /** Names of what calls are making that have not written their row yet. */
  readonly #making = new Set<string>();
  /** Of names in `path`. */
  readonly #flush: CountedFlush;
  /** Names that may not be on disk yet. */
  readonly #recent = new RecentNames();
  readonly #additions: FileCalls;
  /** Nobody waits for them. */
  readonly #removals: FileCalls;
  readonly #unmount: (directory: string) => void;

  /** `unmount`: takes away what is mounted on a directory, if anything is. */
  constructor(
    path: string,
    native: Pick<Addon, 'fileCalls'>,
    unmount: (directory: string) => void = () => {},
    flush: (path: string) => Promise<void> = syncDirectory,
  ) {
    this.path = path;
    this.#unmount = unmount;
    this.#flush = new CountedFlush(path, () => flush(path));
    this.#additions = new FileCalls(native.fileCalls);
    this.#removals = new FileCalls(native.fileCalls);
  }

  /** `<id>/fs`. */
  fs(id: number): string {
    return fsDirectory(this.path, id);
  }

  /** Throws if a flush failed. */
  check(): void {
    this.#flush.check();
  }

  /** Waits until a power failure can no longer take the directory of an id; undefined where that is so. INTERNAL if the disk failed. */
  flushed(id: number): Promise<void> | undefined {
    return this.#flush.done(this.#recent.last(String(id)));
  }

  /**
   * Makes the directory of an id that has none, and runs `record`, which writes its row; if either fails, the directory
   * goes. The root of an overlay mount has the owner and mode of the upper directory, hence those of the parent; without
   * one it is root's and 0755. RESOURCE_EXHAUSTED if the disk is full, ENOENT if the parent's directory is not there.
   */
  async make<T>(id: number, layout: DirectoryLayout, record: () => T | Promise<T>): Promise<T> {
    const names = [`${NEW}${randomUUID()}`, String(id)] as const;
    for (const name of names) this.#making.add(name);
    try {
      this.check();
      await this.#build(...names, layout);
      return await record();
    } catch (error) {
      for (const name of names) await this.#abandon(name);
      throw explainFullDisk(this.path, error);
    } finally {
      for (const name of names) this.#making.delete(name);
    }
  }

  /**
   * Whether the directory of an id has all its parts; `work` is made if that is what is missing: file systems may flush the
   * parts of a directory apart. Throws if the disk does not say.
   */
  async complete(id: number, { work }: { work: boolean }): Promise<boolean> {
    if (!isThere(this.fs(id))) return false;
    const path = workDirectory(this.path, id);
    if (work && !isThere(path)) await this.#additions.do([{ call: 'mkdir', path, mode: WORK_MODE }]);
    return true;
  }

  /** Takes away what is mounted on the directory of an id. */
  unmount(id: number): void {
    this.#unmount(this.fs(id));
  }

  /**
   * Deletes the directory of an id that has no row any more, if nothing is in it: one that was never mounted. To walk it first
   * takes twice the processor time. False if it must be retired, and walked.
   */
  async removeEmpty(id: number): Promise<boolean> {
    const path = join(this.path, String(id));
    try {
      // Without its row it is an orphan whatever is left of it.
      await this.#removals.do(['work', 'fs', ''].map((part) => ({ call: 'rmdir', path: join(path, part) })));
      return true;
    } catch {
      return false;
    }
  }

  /** Takes the directory's name away at once; answers the path that is left to delete, if there was one. */
  retire(id: number): string | undefined {
    return this.#retire(String(id));
  }

  /** Ids of the directories on disk: once it has answered, a power failure takes none of them. */
  async present(): Promise<Set<number>> {
    await this.#flush.done(this.#flush.wrote());
    return new Set((await readdir(this.path)).map(idOf).filter((id) => id !== undefined));
  }

  /**
   * Retires what neither a row nor a call under way names, and answers the paths of all that is retired. Other names
   * (lost+found) are not ours. `flushed`: a row that is gone stays gone.
   */
  async retireOrphans(
    rows: () => ReadonlySet<number>,
    flushed: () => Promise<void> | undefined,
    onError: (error: unknown) => void,
  ): Promise<string[]> {
    const names = await readdir(this.path);
    // In one go: what has no row now, and is not being made, will never have one.
    const known = rows();
    const orphans = names.filter((name) => {
      if (this.#making.has(name)) return false;
      const id = idOf(name);
      return id === undefined ? name.startsWith(NEW) : !known.has(id);
    });
    await flushed();
    const retired = names.filter((name) => name.startsWith(GONE)).map((name) => join(this.path, name));
    for (const name of orphans) {
      try {
        const path = this.#retire(name);
        if (path !== undefined) retired.push(path);
      } catch (error) {
        onError(error);
      }
    }
    return retired;
  }

  async #build(
    newName: string,
    name: string,
    { flushed, work, parent, owner, files = {}, mount }: DirectoryLayout,
  ): Promise<void> {
    const path = join(this.path, newName);
    const fs = join(path, 'fs');
    const above = parent === undefined ? { uid: 0, gid: 0, mode: 0o755 } : statSync(this.fs(parent));
    const { uid, gid } = owner ?? above;
    const calls: FileCall[] = [
      { call: 'mkdir', path, mode: 0o700 },
      { call: 'mkdir', path: fs, mode: 0o700 },
    ];
    if (uid !== 0 || gid !== 0) calls.push({ call: 'chown', path: fs, uid, gid });
    // mkdir's mode passes through the umask; chmod's does not.
    calls.push({ call: 'chmod', path: fs, mode: above.mode & 0o7777 });
    if (work) calls.push({ call: 'mkdir', path: join(path, 'work'), mode: WORK_MODE });
    const written = Object.entries(files);
    if (written.length > 0) {
      await this.#additions.do(calls.splice(0));
      for (const [file, content] of written)
        await writeFile(join(path, file), content, { mode: 0o600, flush: true });
    }
    await this.#additions.do([...calls, { call: 'rename', path, to: join(this.path, name) }]);
    // One flush for all that are made meanwhile, and none of their own: what was done before the last change of a folder is
    // on disk with that change. ext4 and XFS write one journal, F2FS a checkpoint, Btrfs logs new folders with their parent.
    const change = this.#flush.wrote();
    this.#recent.touched([name], change, this.#flush.flushed);
    if (flushed) await this.#flush.done(change);
    await mount?.(join(this.path, name, 'fs'));
  }

  /** What cannot be deleted now is an orphan from now on. */
  async #abandon(name: string): Promise<void> {
    try {
      const path = this.#retire(name);
      if (path !== undefined) await rm(path, { recursive: true, force: true });
    } catch {
      // The error that led here says more; Cleanup tries again.
    }
  }

  #retire(name: string): string | undefined {
    const gone = join(this.path, `${GONE}${randomUUID()}`);
    this.#unmount(join(this.path, name, 'fs'));
    try {
      renameSync(join(this.path, name), gone);
      return gone;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }
}

/** Nothing else that goes wrong says that it is not there. */
function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function idOf(name: string): number | undefined {
  return /^[1-9][0-9]{0,15}$/.test(name) ? Number(name) : undefined;
}

/** Without it a power failure may take a name away that a flushed row refers to. */
async function syncDirectory(path: string): Promise<void> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await flush(fd);
  } finally {
    closeSync(fd);
  }
}
