/** Input for a child. */
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';

let last = 0;

/**
 * Runs work with a descriptor that reads as `bytes`, of any length, and is closed after it. It is a file that nobody can
 * find: a pipe would hold 64 KiB and then wait for its reader.
 */
export async function withInput<Result>(
  directory: string,
  bytes: Uint8Array,
  work: (fd: number) => Promise<Result>,
): Promise<Result> {
  last += 1;
  const path = join(directory, `.input-${process.pid}-${last}`);
  const fd = openSync(path, 'wx+', 0o600);
  try {
    unlinkSync(path);
    // At a position, so that the descriptor's own stays at the beginning.
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
    return await work(fd);
  } finally {
    closeSync(fd);
  }
}
