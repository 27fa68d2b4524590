/**
 * Puts what SQLite wrote into its log on disk, without keeping the event loop: SQLite would wait for the disk in every
 * commit. All who wait meanwhile share one flush. Source: sqlite.org/wal.html; with `synchronous = NORMAL` only
 * checkpoints flush, and after a power failure the log counts up to its first torn frame.
 */
import { closeSync, fdatasync, fdatasyncSync, fsyncSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { CountedFlush } from '../counted-flush.ts';

type Flush = (fd: number) => Promise<void>;

/** What it counts are transactions. */
export class LogFlush extends CountedFlush {
  readonly #fd: number;

  /** Of a database that is open in WAL mode: its log is there for as long. What is in it by now is on disk afterwards. */
  constructor(database: string, flush: Flush = promisify(fdatasync)) {
    const path = `${database}-wal`;
    super(path, () => flush(this.#fd));
    // Closing a descriptor of the database itself would drop SQLite's locks; the log has none.
    this.#fd = openSync(path, 'r');
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

  close(): void {
    closeSync(this.#fd);
  }
}
