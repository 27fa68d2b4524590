/** Programs that tests run: to their end (`run`), or beside the test as a daemon (`Daemon`). */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { Code } from '../../proto/status.ts';
import { TestError } from './error.ts';
import { failedLogs } from './failed-logs.ts';
import { until } from './wait.ts';

export interface RunOptions {
  /** Default 60 s; then the program is killed and the promise rejects. */
  timeoutMs?: number;
  input?: string | Uint8Array;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Return also when the exit code is not 0. */
  allowFailure?: boolean;
}

export interface RunResult {
  code: number;
  stdout: string;
  stderr: string;
}

/**
 * Runs a program to its end, that is until it exited and closed its output: one that leaves a daemon behind which
 * keeps stdout open is an error here. Rejects on a non-zero exit code unless `allowFailure` is set.
 */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  child.stdout.on('data', (chunk: Buffer) => output.stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => output.stderr.push(chunk));
  // A program that does not read its input closes the pipe; its exit code says whether that was right.
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
    child.stdout.destroy();
    child.stderr.destroy();
  }, timeoutMs);
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', (cause) => {
      reject(new TestError(Code.notFound, `Cannot run ${command}: ${cause.message}`, { cause }));
    });
    child.once('close', (exit) => resolve(exit ?? -1));
  }).finally(() => clearTimeout(timer));
  const result = {
    code,
    stdout: Buffer.concat(output.stdout).toString(),
    stderr: Buffer.concat(output.stderr).toString(),
  };
  const line = [command, ...args].join(' ');
  if (timedOut)
    throw new TestError(Code.deadlineExceeded, `No end of "${line}" in ${timeoutMs} ms\n${result.stderr}`);
  if (code !== 0 && !options.allowFailure)
    throw new TestError(Code.unknown, `"${line}" ended with ${code}\n${result.stdout}${result.stderr}`);
  return result;
}

/** Between two looks whether a daemon is ready: a start of one takes a few hundred milliseconds. */
const LONGEST_PAUSE_MS = 40;

export interface DaemonOptions {
  /** Gets stdout and stderr, appended. */
  log: string;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Its descriptors from 3 on. */
  descriptors?: readonly number[];
  /** Must come true within `readyMs` (default 20 s). */
  ready: () => boolean | Promise<boolean>;
  readyMs?: number;
}

/** A program that runs beside a test. */
export class Daemon {
  readonly name: string;
  readonly log: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;

  private constructor(name: string, child: ChildProcess, log: string) {
    this.name = name;
    this.#child = child;
    this.log = log;
    this.#exited = new Promise((resolve) => child.once('exit', () => resolve()));
    child.once('exit', () => failedLogs.keep(log));
  }

  static async start(command: string, args: readonly string[], options: DaemonOptions): Promise<Daemon> {
    failedLogs.follow(options.log);
    const log = openSync(options.log, 'a', 0o600);
    const child = spawn(command, args, {
      stdio: ['ignore', log, log, ...(options.descriptors ?? [])],
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    closeSync(log);
    const daemon = new Daemon(command, child, options.log);
    const failed = new Promise<never>((_, reject) => {
      child.once('error', reject);
    });
    try {
      await Promise.race([
        failed,
        until(
          `${command} to be ready`,
          () => {
            if (!daemon.running) return true;
            return options.ready();
          },
          options.readyMs ?? 20_000,
          LONGEST_PAUSE_MS,
        ),
      ]);
      if (!daemon.running) throw new TestError(Code.unavailable, `${command} ended while starting`);
    } catch (cause) {
      await daemon.kill();
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new TestError(Code.unavailable, `Cannot start ${command}: ${why}\n${daemon.tail()}`, { cause });
    }
    return daemon;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  get running(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** SIGTERM; an error if that does not end it within `ms`, after SIGKILL did. */
  async stop(ms = 15_000): Promise<void> {
    if (!this.running) return;
    this.#child.kill('SIGTERM');
    try {
      await until(`${this.name} to end after SIGTERM`, () => !this.running, ms);
    } catch (cause) {
      await this.kill();
      throw new TestError(Code.deadlineExceeded, `${this.name} ignored SIGTERM\n${this.tail()}`, { cause });
    }
  }

  /** SIGKILL, as a crash. */
  async kill(): Promise<void> {
    if (!this.running) return;
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  /** The last lines of its log. */
  tail(lines = 40): string {
    return readFileSync(this.log, 'utf8').split('\n').slice(-lines).join('\n');
  }
}
