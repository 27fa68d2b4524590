/** Runs helper programs (runc) with a deadline, and knows which child pids are not strangers to reap. */
import { accessSync, closeSync, constants, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Addon } from '../../native/index.ts';

export type ChildStdio = readonly [number | 'ignore', number | 'ignore', number | 'ignore'];

export interface ChildOptions {
  env: Readonly<Record<string, string>>;
  cwd?: string;
  /** Milliseconds after which the whole process group is killed; Infinity for a program that somebody else ends. */
  deadlineMs: number;
  /** Default: /dev/null everywhere. */
  stdio?: ChildStdio;
  /** What it reads from stdin, instead of the descriptor in `stdio`. */
  input?: Uint8Array;
  /** Keep what it writes to stdout (at most 4 MiB), instead of the descriptor in `stdio`. */
  captureStdout?: boolean;
  /** Extra descriptors, from 3 on. */
  extraFds?: readonly number[];
  /** Told the pid once the program runs, and before anybody reaps it: the pid is its own even if it has ended. */
  onSpawn?(pid: number): void;
}

export interface ChildResult {
  /** Undefined if a signal ended it. */
  code: number | undefined;
  signal: number | undefined;
  timedOut: boolean;
  stdout: string;
}

export interface Spawner {
  /** Rejects if the program cannot be started. */
  run(file: string, args: readonly string[], options: ChildOptions): Promise<ChildResult>;
}

export type SpawnCalls = Pick<Addon, 'spawn' | 'signalGroup' | 'memoryFile' | 'pidfdOpen' | 'pidfdWait'>;

const MAX_CAPTURE = 4 << 20;
const SIGKILL = 9;
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export class ChildSpawner implements Spawner {
  readonly #calls: SpawnCalls;
  readonly #openFiles: number;
  readonly #pids = new Set<number>();

  /** @param openFiles soft limit of descriptors for what is started, 0 for our own: Node raises its own to the hard one. */
  constructor(calls: SpawnCalls, openFiles = 0) {
    this.#calls = calls;
    this.#openFiles = openFiles;
  }

  /** Somebody here waits for this child. */
  owns(pid: number): boolean {
    return this.#pids.has(pid);
  }

  async run(file: string, args: readonly string[], options: ChildOptions): Promise<ChildResult> {
    const files = new MemoryFiles(this.#calls);
    try {
      const [stdin, stdout, stderr] = options.stdio ?? ['ignore', 'ignore', 'ignore'];
      const output = options.captureStdout ? files.open() : undefined;
      const descriptors = [
        options.input ? files.open(options.input) : numberOf(stdin),
        output ?? numberOf(stdout),
        numberOf(stderr),
        ...(options.extraFds ?? []),
      ];
      const ended = await this.#start(file, args, options, descriptors);
      return { ...ended, stdout: output === undefined ? '' : readFrom(output) };
    } finally {
      files.close();
    }
  }

  #start(
    file: string,
    args: readonly string[],
    options: ChildOptions,
    descriptors: readonly number[],
  ): Promise<Omit<ChildResult, 'stdout'>> {
    const { env, cwd = '', deadlineMs, onSpawn } = options;
    const calls = this.#calls;
    const environment = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const { pid, pidfd } = calls.spawn(
      findProgram(file, env['PATH']),
      args,
      environment,
      cwd,
      descriptors,
      this.#openFiles,
    );
    this.#pids.add(pid);
    const { promise, resolve, reject } = Promise.withResolvers<Omit<ChildResult, 'stdout'>>();
    let timedOut = false;
    // A descriptor of its own: pidfdWait closes the one that it gets.
    const handle = calls.pidfdOpen(pid);
    const expire = () => {
      timedOut = true;
      try {
        calls.signalGroup(handle, pid, SIGKILL);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    };
    const timer = Number.isFinite(deadlineMs) ? setTimeout(expire, deadlineMs) : undefined;
    try {
      // First: pidfdWait reaps in a thread of its own.
      onSpawn?.(pid);
    } finally {
      calls.pidfdWait(pidfd, (error, status) => {
        clearTimeout(timer);
        closeSync(handle);
        this.#pids.delete(pid);
        if (!status) return reject(error);
        const { code, signal } = status;
        resolve(signal === 0 ? { code, signal: undefined, timedOut } : { code: undefined, signal, timedOut });
      });
    }
    return promise;
  }
}

/** Input and output of a child in files: unlike with pipes, nothing has to be moved while it runs. */
class MemoryFiles {
  readonly #calls: SpawnCalls;
  readonly #open: number[] = [];

  constructor(calls: SpawnCalls) {
    this.#calls = calls;
  }

  open(content: Uint8Array = new Uint8Array()): number {
    const fd = this.#calls.memoryFile();
    this.#open.push(fd);
    // At positions, so that the child begins to read at the first byte.
    for (let at = 0; at < content.length; ) at += writeSync(fd, content, at, content.length - at, at);
    return fd;
  }

  close(): void {
    for (const fd of this.#open.splice(0)) closeSync(fd);
  }
}

function numberOf(stream: number | 'ignore'): number {
  return stream === 'ignore' ? -1 : stream;
}

function readFrom(fd: number): string {
  const buffer = Buffer.allocUnsafe(64 << 10);
  const parts: Buffer[] = [];
  for (let at = 0; at < MAX_CAPTURE; ) {
    const length = readSync(fd, buffer, 0, Math.min(buffer.length, MAX_CAPTURE - at), at);
    if (length === 0) break;
    parts.push(Buffer.from(buffer.subarray(0, length)));
    at += length;
  }
  return Buffer.concat(parts).toString('utf8');
}

/** As execvp(3) finds a program; the name itself where it finds none, for the error of starting it. */
export function findProgram(name: string, path = DEFAULT_PATH): string {
  if (name.includes('/')) return name;
  for (const directory of path.split(':')) {
    const candidate = join(directory || '.', name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // not here, or not for us
    }
  }
  return name;
}
