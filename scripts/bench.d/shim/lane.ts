import type { Mount } from '../../../cli/containerd/index.ts';
import { Code } from '../../../proto/status.ts';
import { BenchError } from '../error.ts';
import type { Stdio, Tasks } from './tasks.ts';

/** Milliseconds that each part of a container's life took. */
export interface Phases {
  create: number;
  start: number;
  /** From the answer of Start to that of Wait; 0 where Wait was answered first. */
  exit: number;
  delete: number;
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
    const began = performance.now();
    await this.#tasks.create(this.id, this.#parts.rootfs, this.stdio);
    const created = performance.now();
    const [started, exited] = await this.#runToEnd('');
    await this.#tasks.delete(this.id);
    return {
      create: created - began,
      start: started - created,
      exit: Math.max(0, exited - started),
      delete: performance.now() - Math.max(started, exited),
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
  async #runToEnd(execId: string): Promise<[number, number]> {
    const now = () => performance.now();
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
