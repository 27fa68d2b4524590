import type { Mount } from '../../../cli/containerd/index.ts';
import { Code } from '../../../proto/status.ts';
import { BenchError } from '../error.ts';
import { nodeCpu } from './cpu.ts';
import type { Stdio, Tasks } from './tasks.ts';

/** Milliseconds of wall and of the node's processor time. */
export interface Cost {
  wall: number;
  cpu: number;
}

/** What each part of a container's life took. */
export interface Phases {
  create: Cost;
  start: Cost;
  /** From the answer of Start to that of Wait; 0 where Wait was answered first. */
  exit: Cost;
  delete: Cost;
}

export interface LaneParts {
  id: string;
  rootfs: readonly Mount[];
  stdio: Stdio;
  /** The OCI runtime spec as JSON. */
  spec: Buffer;
}

/** One container's record, in which tasks are made, run and deleted one after another. */
export class Lane {
  readonly id: string;
  readonly stdio: Stdio;
  readonly #tasks: Tasks;
  readonly #parts: LaneParts;
  #execs = 0;

  constructor(tasks: Tasks, parts: LaneParts) {
    this.id = parts.id;
    this.stdio = parts.stdio;
    this.#tasks = tasks;
    this.#parts = parts;
  }

  /** Creates and starts a task; the pid of its init. */
  async up(): Promise<number> {
    const pid = await this.#tasks.create(this.id, this.#parts.rootfs, this.stdio);
    await this.#tasks.start(this.id);
    return pid;
  }

  async down(): Promise<void> {
    const exited = this.#tasks.wait(this.id);
    await Promise.all([exited, this.#tasks.kill(this.id)]);
    await this.#tasks.delete(this.id);
  }

  /** A whole life of a container whose program ends by itself. */
  async cycle(): Promise<Phases> {
    const began = now();
    await this.#tasks.create(this.id, this.#parts.rootfs, this.stdio);
    const created = now();
    const [started, exited] = await this.#runToEnd('');
    const ended = exited.wall > started.wall ? exited : started;
    await this.#tasks.delete(this.id);
    return {
      create: between(began, created),
      start: between(created, started),
      exit: between(started, ended),
      delete: between(ended, now()),
    };
  }

  /** Runs a command in the running container, to its end. */
  async exec(command: readonly string[]): Promise<void> {
    const execId = `exec-${this.#execs++}`;
    const { process } = JSON.parse(this.#parts.spec.toString()) as { process: object };
    await this.#tasks.exec(this.id, execId, { ...process, args: command }, this.stdio);
    await this.#runToEnd(execId);
    await this.#tasks.deleteExec(this.id, execId);
  }

  /** When Start and when Wait were answered. */
  async #runToEnd(execId: string): Promise<[Cost, Cost]> {
    let status = 0;
    const times = await Promise.all([
      this.#tasks.start(this.id, execId).then(now),
      this.#tasks.wait(this.id, execId).then((exitStatus) => {
        status = exitStatus;
        return now();
      }),
    ]);
    if (status !== 0)
      throw new BenchError(Code.failedPrecondition, `${this.id} ended with ${status} instead of 0`);
    return times;
  }
}

function now(): Cost {
  return { wall: performance.now(), cpu: nodeCpu() };
}

function between(from: Cost, to: Cost): Cost {
  return { wall: to.wall - from.wall, cpu: to.cpu - from.cpu };
}
