/**
 * Ends or stops a daemon right before the Nth of its calls that change the file system below a folder: mkdir, rename,
 * rmdir, unlink, chmod, chown, fsync, fdatasync, pwrite, ftruncate.
 */
import { closeSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { privateDir } from './dirs.ts';

const LIBRARY = join(import.meta.dirname, '../../build/test/crash-point.so');

/** Numbers of signals: the library sends them as they are. */
const SIGNALS = { kill: 9n, stop: 19n } as const;

export class CrashPoint {
  /** For the daemon. */
  readonly env: NodeJS.ProcessEnv;
  readonly #dir: string;
  readonly #fd: number;

  constructor(root: string) {
    this.#dir = privateDir('crash');
    const control = join(this.#dir, 'control');
    this.#fd = openSync(control, 'w+', 0o600);
    this.disarm();
    this.env = { LD_PRELOAD: LIBRARY, THAW_CRASH_CONTROL: control, THAW_CRASH_ROOT: root };
  }

  /** Counts from now on, up to the call before which it shall happen (from 1). */
  arm(call: number, what: keyof typeof SIGNALS): void {
    this.#write([BigInt(call), 0n, SIGNALS[what]]);
  }

  disarm(): void {
    this.#write([0n, 0n, 0n]);
  }

  /** Calls since the last of `arm` and `disarm`. */
  count(): number {
    const bytes = Buffer.alloc(8);
    readSync(this.#fd, bytes, 0, 8, 8);
    return Number(bytes.readBigUInt64LE());
  }

  remove(): void {
    closeSync(this.#fd);
    rmSync(this.#dir, { recursive: true });
  }

  /** Limit, count and signal, as the library has them mapped. */
  #write(values: readonly bigint[]): void {
    const bytes = Buffer.alloc(24);
    for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(value, i * 8);
    writeSync(this.#fd, bytes, 0, bytes.length, 0);
  }
}

/** Whether a process is stopped by a signal. */
export function isStopped(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T');
  } catch {
    return false;
  }
}
