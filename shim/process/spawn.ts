/** Starts helper programs (runc) with a deadline, and knows which child pids are libuv's to reap. */
import { spawn } from 'node:child_process';

export type ChildStdio = readonly [number | 'ignore', number | 'ignore', number | 'ignore'];

export interface ChildOptions {
  env: Readonly<Record<string, string>>;
  cwd?: string;
  /** Milliseconds after which the whole process group is killed. */
  deadlineMs: number;
  /** Default: /dev/null everywhere. */
  stdio?: ChildStdio;
  /** Keep what it writes to stdout (at most 4 MiB), instead of the descriptor in `stdio`. */
  captureStdout?: boolean;
  /** Extra descriptors, from 3 on. */
  extraFds?: readonly number[];
  /** Told the pid once the program runs. */
  onSpawn?(pid: number): void;
}

export interface ChildResult {
  /** Undefined if a signal ended it. */
  code: number | undefined;
  signal: string | undefined;
  timedOut: boolean;
  stdout: string;
}

export interface Spawner {
  run(file: string, args: readonly string[], options: ChildOptions): Promise<ChildResult>;
}

const MAX_CAPTURE = 4 << 20;

export class ChildSpawner implements Spawner {
  /** Children that libuv waits for. Nobody else may reap them. */
  readonly #pids = new Set<number>();

  owns(pid: number): boolean {
    return this.#pids.has(pid);
  }

  /** Helpers still running; processes they leave behind must not be taken for strangers. */
  get busy(): boolean {
    return this.#pids.size > 0;
  }

  run(file: string, args: readonly string[], options: ChildOptions): Promise<ChildResult> {
    const [stdin, stdout, stderr] = options.stdio ?? ['ignore', 'ignore', 'ignore'];
    return new Promise((resolve, reject) => {
      const child = spawn(file, args, {
        env: options.env,
        ...(options.cwd ? { cwd: options.cwd } : {}),
        stdio: [stdin, options.captureStdout ? 'pipe' : stdout, stderr, ...(options.extraFds ?? [])],
        // A group of its own, so that the deadline also ends what it started.
        detached: true,
      });
      const { pid } = child;
      const chunks: Buffer[] = [];
      let captured = 0;
      let timedOut = false;
      const timer = setTimeout(() => {
        timedOut = true;
        if (pid !== undefined) killGroup(pid);
        // Something that escaped the group may hold the pipe open.
        child.stdout?.destroy();
      }, options.deadlineMs);
      child.stdout?.on('data', (chunk: Buffer) => {
        captured += chunk.length;
        if (captured <= MAX_CAPTURE) chunks.push(chunk);
      });
      if (pid !== undefined) {
        this.#pids.add(pid);
        options.onSpawn?.(pid);
      }
      child.on('error', (error) => {
        clearTimeout(timer);
        if (pid !== undefined) this.#pids.delete(pid);
        reject(error);
      });
      child.on('exit', () => {
        if (pid !== undefined) this.#pids.delete(pid);
      });
      child.on(options.captureStdout ? 'close' : 'exit', (code, signal) => {
        clearTimeout(timer);
        resolve({
          code: code ?? undefined,
          signal: signal ?? undefined,
          timedOut,
          stdout: Buffer.concat(chunks).toString('utf8'),
        });
      });
    });
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
