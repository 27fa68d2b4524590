/** Runs runc, with a deadline on every call, and turns its failures into errors. */
import { appendFileSync, readFileSync, unlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { ChildResult, ChildStdio, Spawner } from '../process/spawn.ts';
import {
  type CheckpointOptions,
  type CreateOptions,
  checkpointArgs,
  createArgs,
  deleteArgs,
  type ExecOptions,
  execArgs,
  globalArgs,
  killArgs,
  type RestoreOptions,
  type RunOptions,
  restoreArgs,
  runArgs,
  updateArgs,
} from './args.ts';
import { lastError, meansProcessGone } from './log.ts';

export interface RuncConfig {
  /** Program name or absolute path. */
  binary: string;
  root: string;
  systemdCgroup: boolean;
  /** What runc and thereby CRIU get as environment; PATH must lead to CRIU first. */
  env: Readonly<Record<string, string>>;
  /** Where failed calls leave runc's log lines: `<bundle>/log.json`. Without it errors have no text of runc's. */
  logFile?: string;
}

export interface CallOptions {
  /** Milliseconds; the call's own default if absent. */
  deadlineMs?: number;
  stdio?: ChildStdio;
  /** Added to the configured environment. */
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Descriptors that runc inherits from 3 on. */
  extraFds?: readonly number[];
  /** Told runc's pid once it runs. */
  onSpawn?(pid: number): void;
}

interface Task {
  /** How an error begins. */
  what: string;
  args: readonly string[];
  deadlineMs: number;
  capture?: boolean;
  /** What runc reads from stdin. */
  input?: Uint8Array;
  /** "no such process" and the like become NotFound. */
  goneIsNotFound?: boolean;
}

/** The kubelet gives StartContainer two minutes; a start must have failed before that. */
export const START_DEADLINE_MS = 100_000;
const QUICK_DEADLINE_MS = 10_000;
const DELETE_DEADLINE_MS = 30_000;
const MOST_PAUSES = 5;
const DUMP_DEADLINE_MS = 600_000;

/** Not another runtime, nor a program in front of it. */
export function isRunc({ binary }: Pick<RuncConfig, 'binary'>): boolean {
  return basename(binary) === 'runc';
}

export class Runc {
  readonly config: RuncConfig;
  readonly #spawner: Spawner;
  #calls = 0;

  constructor(config: RuncConfig, spawner: Spawner) {
    this.config = config;
    this.#spawner = spawner;
  }

  /** The spawner, for programs that belong to a restore or dump and need the same care. */
  get spawner(): Spawner {
    return this.#spawner;
  }

  async create(options: CreateOptions, call: CallOptions = {}): Promise<void> {
    await this.#checked(
      { what: 'OCI runtime create failed', args: createArgs(options), deadlineMs: START_DEADLINE_MS },
      call,
    );
  }

  async start(id: string, call: CallOptions = {}): Promise<void> {
    await this.#checked(
      { what: 'OCI runtime start failed', args: ['start', id], deadlineMs: START_DEADLINE_MS },
      call,
    );
  }

  async exec(options: ExecOptions, call: CallOptions = {}): Promise<void> {
    await this.#checked(
      { what: 'OCI runtime exec failed', args: execArgs(options), deadlineMs: START_DEADLINE_MS },
      call,
    );
  }

  /** Runs a process in the container until it ends. Rejects unless it ends with status 0. */
  async run(options: RunOptions, call: CallOptions = {}): Promise<void> {
    await this.#checked(
      { what: 'OCI runtime exec failed', args: runArgs(options), deadlineMs: START_DEADLINE_MS },
      call,
    );
  }

  /** NotFound if the process is gone already. */
  async kill(id: string, signal: number, all = false, call: CallOptions = {}): Promise<void> {
    await this.#checked(
      {
        what: 'OCI runtime kill failed',
        args: killArgs(id, signal, all),
        deadlineMs: QUICK_DEADLINE_MS,
        goneIsNotFound: true,
      },
      call,
    );
  }

  /** Succeeds if runc knows no such container. */
  async delete(id: string, force: boolean, call: CallOptions = {}): Promise<void> {
    try {
      await this.#checked(
        {
          what: 'OCI runtime delete failed',
          args: deleteArgs(id, force),
          deadlineMs: DELETE_DEADLINE_MS,
          goneIsNotFound: true,
        },
        call,
      );
    } catch (error) {
      if (error instanceof ShimError && error.code === Code.notFound) return;
      throw error;
    }
  }

  /**
   * On cgroup v1 runc gives up after some milliseconds, and thaws what it had frozen, if processes fork faster than the
   * machine gets round to freezing them (seen with 1.3 on two busy cores): then it is asked again.
   */
  async pause(id: string, call: CallOptions = {}): Promise<void> {
    const task = { what: 'OCI runtime pause failed', args: ['pause', id], deadlineMs: DELETE_DEADLINE_MS };
    for (let again = MOST_PAUSES; ; again -= 1) {
      try {
        await this.#checked(task, call);
        return;
      } catch (error) {
        if (again === 1 || !(error instanceof Error && error.message.includes('unable to freeze')))
          throw error;
      }
    }
  }

  async resume(id: string, call: CallOptions = {}): Promise<void> {
    await this.#checked(
      { what: 'OCI runtime resume failed', args: ['resume', id], deadlineMs: DELETE_DEADLINE_MS },
      call,
    );
  }

  /** @param resources JSON of an OCI LinuxResources. */
  async update(id: string, resources: Uint8Array, call: CallOptions = {}): Promise<void> {
    await this.#checked(
      {
        what: 'OCI runtime update failed',
        args: updateArgs(id),
        deadlineMs: DELETE_DEADLINE_MS,
        input: resources,
      },
      call,
    );
  }

  async checkpoint(options: CheckpointOptions, call: CallOptions = {}): Promise<void> {
    await this.#checked(
      { what: 'OCI runtime checkpoint failed', args: checkpointArgs(options), deadlineMs: DUMP_DEADLINE_MS },
      call,
    );
  }

  async restore(options: RestoreOptions, call: CallOptions = {}): Promise<void> {
    await this.#checked(
      { what: 'OCI runtime restore failed', args: restoreArgs(options), deadlineMs: START_DEADLINE_MS },
      call,
    );
  }

  /** Pids of all processes in the container's cgroup. */
  async ps(id: string, call: CallOptions = {}): Promise<number[]> {
    const { stdout } = await this.#checked(
      {
        what: 'OCI runtime ps failed',
        args: ['ps', '--format', 'json', id],
        deadlineMs: QUICK_DEADLINE_MS,
        capture: true,
      },
      call,
    );
    const parsed: unknown = JSON.parse(stdout);
    // An empty cgroup is "null".
    if (parsed === null) return [];
    if (!Array.isArray(parsed) || !parsed.every((pid) => Number.isInteger(pid)))
      throw new ShimError(
        Code.internal,
        `Cannot understand the output of "runc ps": ${stdout.slice(0, 200)}`,
      );
    return parsed;
  }

  /** First word after "runc version", for example "1.3.6+ds1". */
  async version(call: CallOptions = {}): Promise<string> {
    const { stdout } = await this.#checked(
      {
        what: 'Cannot ask runc for its version',
        args: ['--version'],
        deadlineMs: QUICK_DEADLINE_MS,
        capture: true,
      },
      call,
    );
    const version = /^runc version (\S+)/m.exec(stdout)?.[1];
    if (!version)
      throw new ShimError(
        Code.internal,
        `Cannot understand the output of "runc --version": ${stdout.slice(0, 200)}`,
      );
    return version;
  }

  async #checked(task: Task, call: CallOptions): Promise<ChildResult> {
    const { what, args } = task;
    const { binary, root, systemdCgroup, env, logFile } = this.config;
    const deadlineMs = call.deadlineMs ?? task.deadlineMs;
    // A file for each call: a concurrent kill must not be blamed for what an exec logged.
    this.#calls += 1;
    const callLog = logFile ? `${logFile}.${this.#calls}` : undefined;
    let result: ChildResult;
    try {
      result = await this.#spawner.run(
        binary,
        [...globalArgs({ root, log: callLog, systemdCgroup }), ...args],
        {
          env: { ...env, ...call.env },
          deadlineMs,
          captureStdout: task.capture ?? false,
          ...(task.input ? { input: task.input } : {}),
          ...(call.stdio ? { stdio: call.stdio } : {}),
          ...(call.cwd ? { cwd: call.cwd } : {}),
          ...(call.onSpawn ? { onSpawn: call.onSpawn } : {}),
          ...(call.extraFds ? { extraFds: call.extraFds } : {}),
        },
      );
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT')
        throw new ShimError(
          Code.failedPrecondition,
          `Cannot find "${binary}"; install runc or set BinaryName`,
          { cause },
        );
      throw cause;
    }
    const failed = result.code !== 0;
    const log = callLog ? takeLog(callLog, failed ? logFile : undefined) : '';
    if (!failed) return result;
    if (result.timedOut)
      throw new ShimError(Code.deadlineExceeded, `${what}: runc did not end within ${deadlineMs} ms`);
    const message =
      lastError(log) ??
      `runc ended with ${result.signal === undefined ? `exit status ${result.code}` : `signal ${result.signal}`}`;
    const gone = task.goneIsNotFound ? meansProcessGone(message) : undefined;
    throw new ShimError(gone ? Code.notFound : Code.unknown, gone ?? `${what}: ${message}`, {
      context: { runc: message },
    });
  }
}

function takeLog(file: string, keepIn: string | undefined): string {
  let text = '';
  try {
    if (keepIn) {
      text = readFileSync(file, 'utf8');
      appendFileSync(keepIn, text);
    }
    unlinkSync(file);
  } catch (error) {
    // runc makes the file only when it has something to say, and `delete` may have removed the bundle meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return text;
}
