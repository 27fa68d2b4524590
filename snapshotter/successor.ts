/** The daemon that takes the place of this one: started while this one still answers. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { unavailable } from './error.ts';
import type { InheritedSockets } from './inherited-sockets.ts';
import { type HandOver, type Stage, TAKE_OVER } from './take-over.ts';

export interface SuccessorOptions {
  program: string;
  args: readonly string[];
  environment: Readonly<Record<string, string | undefined>>;
  sockets: InheritedSockets;
  /** For each of its stages. */
  timeoutMs: number;
}

const FIRST_FD = 3;

export class Successor {
  readonly #child: ChildProcess;
  readonly #timeoutMs: number;
  readonly #told = new Set<string>();
  #wake: () => void = () => {};
  #failure: string | undefined;

  constructor({ program, args, environment, sockets, timeoutMs }: SuccessorOptions) {
    const descriptors = [...sockets.values()];
    const handOver: HandOver = {
      pid: process.pid,
      sockets: Object.fromEntries([...sockets.keys()].map((path, i) => [path, FIRST_FD + i])),
      pipe: FIRST_FD + descriptors.length,
    };
    this.#timeoutMs = timeoutMs;
    this.#child = spawn(program, args, {
      stdio: ['ignore', 'inherit', 'inherit', ...descriptors, 'pipe'],
      env: { ...environment, [TAKE_OVER]: JSON.stringify(handOver) },
      detached: true,
    });
    const fail = (why: string) => {
      this.#failure ??= why;
      this.#wake();
    };
    this.#child.once('error', (error) => fail(error.message));
    this.#child.once('exit', (code, signal) => fail(`it ended with ${signal ?? code}; its log says why`));
    const pipe = this.#child.stdio[handOver.pipe] as Readable | null;
    pipe?.on('error', () => {});
    if (pipe)
      createInterface(pipe).on('line', (line) => {
        this.#told.add(line);
        this.#wake();
      });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Throws UNAVAILABLE, and it has ended, if it does not get so far in time. */
  async reaches(stage: Stage): Promise<void> {
    const timer = setTimeout(() => {
      this.#failure ??= `it was not ${stage} in ${this.#timeoutMs / 1000} s`;
      this.#wake();
    }, this.#timeoutMs);
    while (!this.#told.has(stage) && this.#failure === undefined)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    clearTimeout(timer);
    if (this.#failure === undefined) return;
    this.end();
    throw unavailable(`Cannot hand over to another daemon: ${this.#failure}`);
  }

  /** It must not take over any more. */
  end(): void {
    this.#child.kill('SIGKILL');
  }
}
