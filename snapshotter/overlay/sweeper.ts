/** Deletes directories in the background, one after the other. What cannot be deleted stays for the next look. */
import { rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Directories } from './directories.ts';

export interface SweeperOptions {
  directories: Directories;
  /** Ids that a row names. */
  rows: () => ReadonlySet<number>;
  /** See SnapshotStore.flushed. */
  flushed: () => Promise<void> | undefined;
  onError: (error: unknown) => void;
}

type Job = { kind: 'delete'; path: string } | { kind: 'look'; done: () => void };

export class Sweeper {
  readonly #options: SweeperOptions;
  readonly #jobs: Job[] = [];
  #running: Promise<void> | undefined;

  constructor(options: SweeperOptions) {
    this.#options = options;
  }

  /** A retired directory. */
  delete(path: string): void {
    this.#add({ kind: 'delete', path });
  }

  /** Looks for orphans and for what could not be deleted before. Ends when that and all asked for earlier is done. */
  look(): Promise<void> {
    return new Promise((done) => this.#add({ kind: 'look', done }));
  }

  /** Waits until nothing is under way. */
  async settle(): Promise<void> {
    await this.#running;
  }

  #add(job: Job): void {
    this.#jobs.push(job);
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    for (let job = this.#jobs.shift(); job; job = this.#jobs.shift()) {
      switch (job.kind) {
        case 'delete':
          await this.#delete(job.path);
          break;
        case 'look':
          await this.#look();
          job.done();
          break;
      }
    }
    // Here and not behind the promise: a job that came in between would wait for ever.
    this.#running = undefined;
  }

  async #look(): Promise<void> {
    const { directories, rows, flushed, onError } = this.#options;
    try {
      for (const path of await directories.retireOrphans(rows, flushed, onError)) await this.#delete(path);
    } catch (error) {
      onError(error);
    }
  }

  async #delete(path: string): Promise<void> {
    try {
      if (!(await removeEmpty(path))) await rm(path, { recursive: true, force: true });
    } catch (error) {
      this.#options.onError(error);
    }
  }
}

/** A snapshot that was never mounted: to walk it first takes twice the processor time. False if there is more. */
async function removeEmpty(path: string): Promise<boolean> {
  try {
    for (const name of ['work', 'fs', '']) await rmdir(join(path, name)).catch(ignoreMissing);
    return true;
  } catch {
    return false;
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
