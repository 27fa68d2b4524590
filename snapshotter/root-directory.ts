/** The daemon's directories: made, closed to others, and held by one daemon at a time. */
import { chmodSync, closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { failedPrecondition } from './error.ts';

export interface RootLayout {
  database: string;
  snapshots: string;
  cache: string;
  /** Where the tars of lazy layers are served. */
  layers: string;
}

export function layoutOf(root: string): RootLayout {
  return {
    database: join(root, 'meta.db'),
    snapshots: join(root, 'snapshots'),
    cache: join(root, 'cache'),
    layers: join(root, 'layers'),
  };
}

/**
 * Makes the directories and locks the root for this process; the function it answers unlocks. FAILED_PRECONDITION if
 * another daemon has it.
 */
export function claimRoot(root: string, tryLock: (fd: number, exclusive: boolean) => boolean): () => void {
  mkdirSync(root, { recursive: true, mode: 0o700 });
  chmodSync(root, 0o700);
  const fd = openSync(join(root, 'daemon.lock'), 'a', 0o600);
  try {
    if (!tryLock(fd, true))
      throw failedPrecondition(
        `Cannot use "${root}": another thaw-snapshotter runs on it; stop that one or choose another --root`,
      );
    const { snapshots, cache } = layoutOf(root);
    for (const directory of [snapshots, cache]) mkdirSync(directory, { recursive: true, mode: 0o700 });
    return () => closeSync(fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** claimRoot, for one who takes the place of the daemon that has it: waits until that one has ended. */
export async function awaitRoot(
  root: string,
  tryLock: (fd: number, exclusive: boolean) => boolean,
  ms: number,
): Promise<() => void> {
  const until = performance.now() + ms;
  while (true) {
    try {
      return claimRoot(root, tryLock);
    } catch (error) {
      if (performance.now() >= until) throw error;
    }
    await sleep(5);
  }
}

/** Makes the place for a socket. Whoever holds the root's lock owns the name: what is there is of a daemon that died. */
export function claimSocket(directory: string, path: string): void {
  // A directory that was there may be shared with others; the socket itself is root's alone.
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  rmSync(path, { force: true });
}
