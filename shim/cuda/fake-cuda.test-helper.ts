/**
 * Runs thaw-cuda on the fake driver of test/fake-libcuda, and processes that use it. For tests only; what ends with a test
 * is taken away with it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { native } from '../../native/index.ts';
import { ChildSpawner } from '../process/spawn.ts';
import { CudaHelper } from './helper.ts';
import { isStopped } from './processes.ts';

const BUILD = join(import.meta.dirname, '../../build');
const LIBRARY = join(BUILD, 'test/fake-libcuda.so');
export const UUID = (digit: number) => `GPU-0000000${digit}-1111-2222-3333-444444444444`;
const GIB = 2 ** 30;
const PATIENCE_MS = 20_000;

export function gpuLine(
  digit: number,
  { bytes = 80 * GIB, mig = 0, vgpu = 0, name = 'Fake H100' } = {},
): string {
  return `${UUID(digit)} ${digit} ${bytes} ${mig} 1 ${vgpu} ${name}\n`;
}

export class FakeCuda {
  readonly directory = mkdtempSync(join(tmpdir(), 'fake-cuda-'));
  readonly #processes: ChildProcess[] = [];
  #roots = 0;

  constructor(gpus = gpuLine(0)) {
    this.setGpus(gpus);
    onTestFinished(() => {
      for (const child of this.#processes) endGroup(child);
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  /** A process that is started has the first. */
  setGpus(gpus: string): void {
    writeFileSync(join(this.directory, 'gpus'), gpus);
  }

  helper(): CudaHelper {
    const config = {
      program: join(BUILD, 'thaw-cuda'),
      libcuda: LIBRARY,
      nvml: LIBRARY,
      env: { THAW_FAKE_CUDA: this.directory },
    };
    const helper = new CudaHelper(config, { calls: native, spawner: new ChildSpawner(native) });
    onTestFinished(() => helper.close());
    return helper;
  }

  /** The next calls of `name`, but for the first `skip`, get this result instead. */
  fault(name: string, result: number | 'hang' | 'crash' | 'die', skip = 0, times = 1): void {
    appendFileSync(join(this.directory, 'faults'), `${name} ${skip} ${times} ${result}\n`);
  }

  /** Functions in the order in which the driver was called. */
  calls(): string[] {
    return readFileSync(join(this.directory, 'log'), 'utf8').trimEnd().split('\n');
  }

  /** How often a program has loaded the driver. */
  starts(): number {
    return readFileSync(join(this.directory, 'starts'), 'utf8').trimEnd().split('\n').length;
  }

  async start(token: string, ...more: string[]): Promise<FakeProcess> {
    const root = join(this.directory, `root-${this.#roots++}`);
    mkdirSync(root);
    writeFileSync(join(root, 'libcuda.so.1'), 'x'.repeat(4096));
    const child = spawn(join(BUILD, 'test/fake-cuda-process'), [this.directory, token, ...more], {
      env: { THAW_FAKE_ROOT: root },
      stdio: 'ignore',
      // A group of its own, which its children end with.
      detached: true,
    });
    this.#processes.push(child);
    const started = new FakeProcess(child, root);
    await started.next();
    return started;
  }
}

function endGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

export class FakeProcess {
  readonly child: ChildProcess;
  readonly #state: string;

  constructor(child: ChildProcess, root: string) {
    this.child = child;
    this.#state = join(root, 'state');
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  #count(): number {
    return existsSync(this.#state) ? Number(readFileSync(this.#state, 'utf8').split(' ')[0]) : 0;
  }

  /** What it sees once it has gone on. */
  async next(): Promise<string> {
    const before = this.#count();
    for (let waited = 0; this.#count() < before + 2; waited += 10) {
      if (waited > PATIENCE_MS) throw new Error(`process ${this.pid} stands still after ${before} rounds`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return readFileSync(this.#state, 'utf8').trim().replace(/^\d+ /, '');
  }

  /** Stops it, and waits until each of its threads stands still. */
  async stop(): Promise<void> {
    this.child.kill('SIGSTOP');
    const threads = readdirSync(`/proc/${this.pid}/task`);
    const stands = (thread: string) =>
      isStopped(readFileSync(`/proc/${this.pid}/task/${thread}/stat`, 'utf8'));
    for (let waited = 0; !threads.every(stands); waited += 10) {
      if (waited > PATIENCE_MS) throw new Error(`process ${this.pid} does not stop`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

export const seen = (token: string, gpu = UUID(0)) => `cpu=${token} file=${token} gpu=${token} on=${gpu}`;
