/** Puts a checkpoint's files on disk little by little, so that whoever else needs the disk meanwhile does not wait long. */

export interface WriteBackDeps {
  /** As `native.writeBack`. */
  writeBack(fd: number, offset: bigint, length: bigint): Promise<void>;
  /** Monotonic milliseconds. */
  clock(): number;
  sleep(ms: number): Promise<void>;
}

/**
 * What is before somebody else's read or fsync in the disk's queue: some 15 ms of a disk that writes 500 MB/s. An fsync of a
 * whole checkpoint held up containerd's own, and the first reads of every program that a start needs, for seconds.
 */
const SLICE = 8n << 20n;

/**
 * Writes what is dirty in the first `size` bytes, and rests after each slice for as long as that took; ends early where it is
 * not wanted any more. Not a promise that
 * all of it is on disk: that takes an fsync, which then has little left to do. Rejects as the file system does.
 */
export async function writeBackGently(
  fd: number,
  size: bigint,
  isWanted: () => boolean,
  deps: WriteBackDeps,
): Promise<void> {
  for (let offset = 0n; offset < size; offset += SLICE) {
    if (!isWanted()) return;
    const began = deps.clock();
    try {
      await deps.writeBack(fd, offset, size - offset < SLICE ? size - offset : SLICE);
    } catch (error) {
      if (isUnable(error)) return;
      throw error;
    }
    const took = deps.clock() - began;
    // Nothing was dirty there.
    if (took < 1) continue;
    await deps.sleep(took);
  }
}

/** A file system that cannot do it in pieces; the fsync does it then. */
function isUnable(error: unknown): boolean {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return code === 'ENOSYS' || code === 'EINVAL' || code === 'ESPIPE' || code === 'EOPNOTSUPP';
}
