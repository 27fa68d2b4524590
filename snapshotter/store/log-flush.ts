/**
 * Puts what SQLite wrote into its log on disk, without keeping the event loop: SQLite would wait for the disk in every
 * commit. All who wait meanwhile share one flush. Source: sqlite.org/wal.html; with `synchronous = NORMAL` only
 * checkpoints flush, and after a power failure the log counts up to its first torn frame.
 */
import { closeSync, fdatasync, fdatasyncSync, fsyncSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';

type Flush = (fd: number) => Promise<void>;

export class LogFlush {
  readonly #path: string;
  readonly #fd: number;
  readonly #flush: Flush;
  /** Transactions so far, and how many of them are on disk. */
  #written = 0;
  #flushed = 0;
  #running: Promise<void> | undefined;
  #broken: SnapshotError | undefined;

  /** Of a database that is open in WAL mode: its log is there for as long. What is in it by now is on disk afterwards. */
  constructor(database: string, flush: Flush = promisify(fdatasync)) {
    this.#path = `${database}-wal`;
    this.#flush = flush;
    // Closing a descriptor of the database itself would drop SQLite's locks; the log has none.
    this.#fd = openSync(this.#path, 'r');
    try {
      fdatasyncSync(this.#fd);
      // SQLite flushes the log's name with the log only where it flushes the log itself.
      const directory = openSync(dirname(database), 'r');
      fsyncSync(directory);
      closeSync(directory);
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  /** After each transaction; answers how many there were. */
  wrote(): number {
    return ++this.#written;
  }

  /** How many transactions are on disk. */
  get flushed(): number {
    return this.#flushed;
  }

  /**
   * Waits until so many transactions are on disk, or all; undefined where they are. Once a flush failed nobody knows what
   * is, and another one could succeed without it (Linux marks the pages clean): from then on everything fails.
   */
  done(transactions = this.#written): Promise<void> | undefined {
    this.check();
    return this.#flushed >= transactions ? undefined : this.#reach(transactions);
  }

  /** Throws if a flush failed. */
  check(): void {
    if (this.#broken) throw this.#broken;
  }

  close(): void {
    closeSync(this.#fd);
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
      await this.#flush(this.#fd);
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
