import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Code, describeError } from '../../proto/status.ts';
import type { Cleanup } from '../cleanup.ts';
import { CliError } from '../error.ts';
import { formatBytes } from '../ui/format.ts';

export interface Scratch {
  root: string;
  /** What CRIU writes. */
  images: string;
  /** CRIU's logs and sockets. */
  work: string;
  /** Layers being packed. */
  layers: string;
}

/** A directory for one run that only root can read: a dump holds every secret of the container's memory. */
export async function makeScratch(workDir: string, cleanup: Cleanup): Promise<Scratch> {
  const root = join(workDir, `checkpoint-${randomBytes(8).toString('hex')}`);
  const scratch = {
    root,
    images: join(root, 'images'),
    work: join(root, 'work'),
    layers: join(root, 'layers'),
  };
  cleanup.add(`remove ${root}`, () => rm(root, { recursive: true, force: true }));
  try {
    await mkdir(workDir, { recursive: true, mode: 0o700 });
    for (const dir of [root, scratch.images, scratch.work, scratch.layers]) await mkdir(dir, { mode: 0o700 });
  } catch (error) {
    throw new CliError(
      describeError(error).code,
      `Cannot make a working directory below ${workDir}: run as root, or name another with --work-dir`,
      { cause: error },
    );
  }
  return scratch;
}

/**
 * Fails before the container is touched where the dump cannot fit: memory that is only in the processes (`needed` bytes)
 * must be written out whole.
 */
export async function checkSpace(workDir: string, needed: bigint): Promise<void> {
  const { bavail, bsize } = await statfs(workDir, { bigint: true });
  const free = bavail * bsize;
  if (free < needed)
    throw new CliError(
      Code.resourceExhausted,
      `Cannot save the container: its memory takes ${formatBytes(needed)}, but ${workDir} has ${formatBytes(free)} free; free some, or name a larger file system with --work-dir`,
    );
}

/** Anonymous and shared memory of the processes; what is mapped from files is not dumped. Source: proc(5), status. */
export async function residentBytes(pids: readonly number[]): Promise<bigint> {
  let kib = 0n;
  for (const pid of pids) {
    // A process that ended meanwhile needs no space.
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    for (const field of ['RssAnon', 'RssShmem'])
      kib += BigInt(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? '0');
  }
  return kib << 10n;
}

/** Less than this is a full disk: CRIU writes whole pages and stops where one does not fit. */
const FULL_BYTES = 64n << 10n;

/**
 * What a dump that failed with `error` is to be told as. CRIU's log lies on the same disk: where that is full, the log
 * may lack what CRIU had to say of it.
 */
export async function dumpSpaceError(error: unknown, workDir: string): Promise<unknown> {
  if (describeError(error).code === Code.canceled) return error;
  // Not what is free for others: CRIU runs as root.
  const free = await statfs(workDir, { bigint: true }).then(
    ({ bfree, bsize }) => bfree * bsize,
    () => FULL_BYTES,
  );
  return free < FULL_BYTES ? fullError(error, workDir) : error;
}

/** A full disk in words that help; every other error as it is. */
export function spaceError(error: unknown, workDir: string): unknown {
  const { message, context } = describeError(error);
  const full = context.errno === 'ENOSPC' || /no space left on device/i.test(message);
  return full ? fullError(error, workDir) : error;
}

function fullError(error: unknown, workDir: string): CliError {
  const { code } = describeError(error);
  return new CliError(
    code === Code.unknown ? Code.resourceExhausted : code,
    `Cannot save the container: ${workDir} is full; free some space, or name a larger file system with --work-dir`,
    { cause: error },
  );
}
