/**
 * Directories of snapshots: `snapshots/<id>/{fs,work}`. A new one is made under a temporary name and renamed when its
 * row is written; an old one is renamed away and then deleted, so that a half-deleted tree never has a valid name.
 */
import { randomUUID } from 'node:crypto';
import { readdirSync, renameSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fsDirectory } from './mounts.ts';

const NEW = 'new-';
const GONE = 'gone-';

export class Directories {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** `<id>/fs`. */
  fs(id: number): string {
    return fsDirectory(this.path, id);
  }

  /**
   * Makes a directory and answers its temporary path. The root of an overlay mount has the owner and mode of the upper
   * directory, so those of `parent` are taken over; without a parent it is root's and 0755.
   */
  async prepare(options: {
    work: boolean;
    parent: number | undefined;
    files?: Readonly<Record<string, Uint8Array>>;
  }): Promise<string> {
    const path = join(this.path, `${NEW}${randomUUID()}`);
    await mkdir(path, { mode: 0o700 });
    try {
      const fs = join(path, 'fs');
      await mkdir(fs);
      // mkdir's mode passes through the umask; chmod's does not.
      if (options.parent === undefined) {
        await chmod(fs, 0o755);
      } else {
        const { uid, gid, mode } = await stat(this.fs(options.parent));
        if (uid !== 0 || gid !== 0) await chown(fs, uid, gid);
        await chmod(fs, mode & 0o7777);
      }
      if (options.work) await mkdir(join(path, 'work'), { mode: 0o711 });
      for (const [name, content] of Object.entries(options.files ?? {}))
        await writeFile(join(path, name), content, { mode: 0o600, flush: true });
      return path;
    } catch (error) {
      await rm(path, { recursive: true, force: true });
      throw error;
    }
  }

  /** Gives a prepared directory its place. Synchronous: it happens inside the store's transaction. */
  place(prepared: string, id: number): void {
    renameSync(prepared, join(this.path, String(id)));
  }

  async discard(prepared: string): Promise<void> {
    await rm(prepared, { recursive: true, force: true });
  }

  /** Takes the directory's name away at once; answers the path that is left to delete, if there was one. */
  retire(id: number): string | undefined {
    return this.#retire(String(id));
  }

  /** Retires everything that no row names. At start only: it would take what is being made. */
  retireOrphans(known: ReadonlySet<number>): void {
    for (const name of readdirSync(this.path)) {
      if (name.startsWith(GONE) || known.has(idOf(name))) continue;
      this.#retire(name);
    }
  }

  /** Deletes what is retired. */
  async sweep(): Promise<void> {
    for (const name of await readdir(this.path))
      if (name.startsWith(GONE)) await rm(join(this.path, name), { recursive: true, force: true });
  }

  #retire(name: string): string | undefined {
    const gone = join(this.path, `${GONE}${randomUUID()}`);
    try {
      renameSync(join(this.path, name), gone);
      return gone;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }
}

function idOf(name: string): number {
  return /^[1-9][0-9]*$/.test(name) ? Number(name) : Number.NaN;
}
