/** What the disk alone takes: the flush that a call which changes something waits for. */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { privateDir } from '../../../test/lib/index.ts';

/** As many pages as a transaction has in SQLite's log, with their headers. */
const BYTES = 4 * (4096 + 24);

/** Milliseconds of each flush of a file that grows, one after the other, until the time is up. */
export function flushes(ms: number, disk?: string): number[] {
  const directory = disk === undefined ? privateDir('flush') : mkdtempSync(join(disk, 'flush-'));
  const fd = openSync(join(directory, 'log'), 'w', 0o600);
  const taken: number[] = [];
  try {
    for (const began = performance.now(); performance.now() - began < ms; ) {
      writeSync(fd, Buffer.alloc(BYTES, taken.length));
      const before = performance.now();
      fdatasyncSync(fd);
      taken.push(performance.now() - before);
    }
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
  return taken;
}
