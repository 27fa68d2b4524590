/**
 * thaw-cuda as a client sees it: started with the first request, kept for those that follow, and started again if it had
 * to be ended. A call that does not return in time is given up together with the program; the driver may still do what
 * was asked when the process goes on (seen with driver 580: a lock of a stopped process).
 */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Addon } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import type { Spawner } from '../process/spawn.ts';
import type { CudaDriver, GpuDevice, GpuList, GpuPair, GpuUse, ProcessState } from './driver.ts';
import { CudaError } from './error.ts';
import { type Answer, pairField, parseAnswer, parseGpus, parseState, parseUse } from './protocol.ts';
import { type Operation, resultError } from './results.ts';

export interface CudaFiles {
  /** Path of thaw-cuda. */
  program: string;
  /** Where the driver's libraries are; empty for the usual places. */
  libcuda: string;
  nvml: string;
}

export interface CudaConfig extends CudaFiles {
  env: Readonly<Record<string, string>>;
}

export interface HelperDeps {
  calls: Pick<Addon, 'pipe'>;
  spawner: Spawner;
}

const START_MS = 20_000;
const QUICK_MS = 10_000;
/** Between a time-out of the driver's and ours. */
const GRACE_MS = 5_000;
/** 80 GB take 45 s where the memory for them is not there yet, and a busy node takes longer. */
const MOVE_MS = 300_000;

export class CudaHelper implements CudaDriver {
  readonly #config: CudaConfig;
  readonly #deps: HelperDeps;
  #running: Promise<Connection> | undefined;
  #closed = false;

  constructor(config: CudaConfig, deps: HelperDeps) {
    this.#config = config;
    this.#deps = deps;
  }

  async state(pid: number): Promise<ProcessState> {
    const state = parseState((await this.#ofProcess('state', pid, [], QUICK_MS))[0]);
    if (!state)
      throw new CudaError(
        Code.internal,
        `The CUDA driver knows a state of process ${pid} that thaw does not`,
      );
    return state;
  }

  async restoreThread(pid: number): Promise<number> {
    return Number((await this.#ofProcess('thread', pid, [], QUICK_MS))[0]);
  }

  async lock(pid: number, timeoutMs: number): Promise<void> {
    await this.#ofProcess('lock', pid, [String(timeoutMs)], timeoutMs + GRACE_MS);
  }

  async checkpoint(pid: number): Promise<void> {
    await this.#ofProcess('checkpoint', pid, [], MOVE_MS);
  }

  async restore(pid: number, pairs: readonly GpuPair[], deadlineMs = MOVE_MS): Promise<void> {
    await this.#ofProcess('restore', pid, pairs.map(pairField), Math.min(deadlineMs, MOVE_MS));
  }

  async unlock(pid: number): Promise<void> {
    await this.#ofProcess('unlock', pid, [], QUICK_MS);
  }

  async makeDevice(pid: number, { name, major, minor }: GpuDevice): Promise<void> {
    await this.#ask(
      `give the container /dev/${name}`,
      ['device', pid, name, major, minor].map(String),
      QUICK_MS,
    );
  }

  async gpus(): Promise<GpuList> {
    return parseGpus(await this.#ask('list the GPUs', ['gpus'], START_MS));
  }

  async use(): Promise<GpuUse[]> {
    return parseUse(await this.#ask('see who uses the GPUs', ['use'], START_MS));
  }

  /** Ends it. What is under way is rejected. */
  close(): void {
    this.#closed = true;
    this.#running?.then((connection) => connection.end('it was closed')).catch(() => {});
  }

  async #ofProcess(operation: Operation, pid: number, more: readonly string[], deadlineMs: number) {
    const what = `${operation} process ${pid}`;
    const answer = await this.#request(what, [operation, String(pid), ...more], deadlineMs);
    if (answer.kind === 'error') throw resultError(operation, pid, answer.result, answer.name);
    return this.#fields(what, answer);
  }

  async #ask(what: string, fields: readonly string[], deadlineMs: number): Promise<string[]> {
    return this.#fields(what, await this.#request(what, fields, deadlineMs));
  }

  #fields(what: string, answer: Answer): string[] {
    if (answer.kind === 'ok') return answer.fields;
    const why = answer.kind === 'problem' ? answer.text : answer.name;
    throw new CudaError(Code.internal, `Cannot ${what}: ${why}`);
  }

  async #request(what: string, fields: readonly string[], deadlineMs: number): Promise<Answer> {
    const connection = await this.#connection();
    const late = new CudaError(
      Code.deadlineExceeded,
      `The NVIDIA driver did not ${what} within ${deadlineMs} ms; a process that is stopped cannot answer it`,
    );
    return connection.request(fields, deadlineMs, late);
  }

  #connection(): Promise<Connection> {
    if (this.#closed) return Promise.reject(new CudaError(Code.canceled, 'thaw-cuda is not needed any more'));
    this.#running ??= this.#start().catch((error: unknown) => {
      this.#running = undefined;
      throw error;
    });
    return this.#running;
  }

  async #start(): Promise<Connection> {
    const { program, libcuda, nvml, env } = this.#config;
    const { calls, spawner } = this.#deps;
    const [input, requests] = calls.pipe();
    const [answers, output] = calls.pipe();
    const connection = new Connection(requests, answers, () => {
      this.#running = undefined;
    });
    const args = [...(libcuda ? ['--libcuda', libcuda] : []), ...(nvml ? ['--nvml', nvml] : [])];
    try {
      spawner
        .run(program, args, {
          env,
          cwd: '/',
          deadlineMs: Number.POSITIVE_INFINITY,
          stdio: [input, output, 'ignore'],
        })
        .then(
          ({ signal }) => connection.exited(signal === undefined ? 'it ended' : `signal ${signal} ended it`),
          (error: Error) => connection.end(error.message),
        );
    } finally {
      closeSync(input);
      closeSync(output);
    }
    await connection.ready(START_MS);
    return connection;
  }
}

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: CudaError): void;
  timer: NodeJS.Timeout;
}

/** One run of the program. */
class Connection {
  readonly #requests: Socket;
  readonly #answers: Socket;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #onEnd: () => void;
  #text = '';
  #ids = 0;
  #over: CudaError | undefined;

  constructor(requests: number, answers: number, onEnd: () => void) {
    this.#onEnd = onEnd;
    this.#requests = new Socket({ fd: requests, readable: false, writable: true });
    this.#answers = new Socket({ fd: answers, readable: true, writable: false });
    this.#ready.promise.catch(() => {});
    // A broken pipe is the program's end, which is told by its exit.
    this.#requests.on('error', () => {});
    this.#answers.on('error', () => {});
    this.#answers.setEncoding('utf8');
    this.#answers.on('data', (text: string) => this.#read(text));
  }

  async ready(deadlineMs: number): Promise<void> {
    const timer = setTimeout(() => this.end(`it said nothing within ${deadlineMs} ms`), deadlineMs);
    try {
      await this.#ready.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  request(fields: readonly string[], deadlineMs: number, late: CudaError): Promise<Answer> {
    if (this.#over) return Promise.reject(this.#over);
    const id = ++this.#ids;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const timer = setTimeout(() => {
      this.#waiting.delete(id);
      reject(late);
      this.end('a call of the driver did not return');
    }, deadlineMs);
    this.#waiting.set(id, { resolve, reject, timer });
    this.#requests.write(`${[id, ...fields].join('\t')}\n`);
    return promise;
  }

  /** What it said last may not have been read yet. */
  exited(why: string): void {
    if (this.#answers.readableEnded || this.#answers.destroyed) this.end(why);
    else this.#answers.once('end', () => this.end(why));
  }

  /** The program ends with its input. */
  end(why: string): void {
    if (this.#over) return;
    this.#over = new CudaError(
      Code.unavailable,
      `thaw-cuda, which talks to the NVIDIA driver, is gone: ${why}`,
    );
    this.#onEnd();
    this.#ready.reject(this.#over);
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(this.#over);
    }
    this.#waiting.clear();
    this.#requests.destroy();
    this.#answers.destroy();
  }

  #read(text: string): void {
    const lines = (this.#text + text).split('\n');
    this.#text = lines.pop() ?? '';
    for (const line of lines) this.#take(line);
  }

  #take(line: string): void {
    if (line.startsWith('ready\t')) this.#ready.resolve();
    if (line.startsWith('problem\t')) this.end(line.slice('problem\t'.length));
    const parsed = parseAnswer(line);
    const waiting = parsed && this.#waiting.get(parsed.id);
    if (!parsed || !waiting) return;
    clearTimeout(waiting.timer);
    this.#waiting.delete(parsed.id);
    waiting.resolve(parsed.answer);
  }
}
