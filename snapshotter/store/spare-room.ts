/**
 * Space on the database's disk that is given up when it is full: to remove a snapshot, which is the way out, SQLite must
 * write.
 */
import { closeSync, ftruncateSync, openSync, statSync, truncateSync, writeSync } from 'node:fs';

/** Twice what is in the log when its pages go into the database (1000 of 4 KiB, as a rule). */
const SIZE = 8 << 20;
const PIECE = Buffer.alloc(1 << 20);

export class SpareRoom {
  readonly #path: string;
  #held = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** Takes the space if it is not held; the disk may be too full for that. */
  hold(): void {
    if (this.#held) return;
    // Of the last run; it was emptied where it could not be written whole.
    this.#held = statSync(this.#path, { throwIfNoEntry: false })?.size === SIZE;
    if (this.#held) return;
    const fd = openSync(this.#path, 'w', 0o600);
    try {
      // Written, not only sized: a hole takes no space.
      for (let at = 0; at < SIZE; at += PIECE.length) writeSync(fd, PIECE, 0, PIECE.length, at);
      this.#held = true;
    } catch {
      ftruncateSync(fd, 0);
    } finally {
      closeSync(fd);
    }
  }

  giveUp(): void {
    this.#held = false;
    try {
      truncateSync(this.#path, 0);
    } catch {
      // It was never made.
    }
  }
}
