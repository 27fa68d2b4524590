/** One flush for all who wait for it: what was changed before it began is on disk when it ends. */
import { Code } from '../proto/status.ts';
import { SnapshotError } from './error.ts';

export class CountedFlush {
  readonly #path: string;
  readonly #flush: () => Promise<void>;
  /** Changes so far, and how many of them are on disk. */
  #written = 0;
  #flushed = 0;
  #running: Promise<void> | undefined;
  #broken: SnapshotError | undefined;

  constructor(path: string, flush: () => Promise<void>) {
    this.#path = path;
    this.#flush = flush;
  }

  /** After each change; answers how many there were. */
  wrote(): number {
    return ++this.#written;
  }

  /** How many changes are on disk. */
  get flushed(): number {
    return this.#flushed;
  }

  /**
   * Waits until so many changes are on disk, or all; undefined where they are. Once a flush failed nobody knows what is, and
   * another one could succeed without it (Linux marks the pages clean): from then on everything fails.
   */
  done(changes = this.#written): Promise<void> | undefined {
    this.check();
    return this.#flushed >= changes ? undefined : this.#reach(changes);
  }

  /** Throws if a flush failed. */
  check(): void {
    if (this.#broken) throw this.#broken;
  }

  async #reach(wanted: number): Promise<void> {
    while (this.#flushed < wanted) {
      this.check();
      this.#running ??= this.#run();
      await this.#running;
    }
  }

  async #run(): Promise<void> {
    const upTo = this.#written;
    try {
      await this.#flush();
      this.#flushed = upTo;
    } catch (cause) {
      this.#broken = new SnapshotError(
        Code.internal,
        `Cannot flush "${this.#path}": ${cause instanceof Error ? cause.message : String(cause)}; check the disk, then restart thaw-snapshotter`,
        { cause },
      );
      throw this.#broken;
    } finally {
      this.#running = undefined;
    }
  }
}
