import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { packFailure } from './failure.ts';
import type { SharedState, WorkerResult, WorkerSetup, WorkerTask } from './protocol.ts';

/** Threads that take one task at a time. close() ends them, and waits until they have let go of their files. */
export class WorkerPool {
  readonly #workers: Worker[];
  readonly #shared: SharedState;

  constructor(threads: number, setup: WorkerSetup, shared: SharedState) {
    this.#shared = shared;
    const program = workerProgram();
    this.#workers = Array.from({ length: threads }, () => {
      const worker = new Worker(program, { workerData: setup, name: 'thaw-pack', env: {} });
      // Listeners of a task are added later; a thread must not end the process before.
      worker.on('error', () => {});
      return worker;
    });
  }

  /** Results in the order of the tasks. The first failure stops all others and is thrown once they have stopped. */
  async run(tasks: readonly WorkerTask[]): Promise<WorkerResult[]> {
    const results: WorkerResult[] = [];
    let next = 0;
    let failure: unknown;
    const drain = async (worker: Worker) => {
      while (next < tasks.length && failure === undefined && !this.#shared.stopped) {
        const at = next++;
        try {
          const result = await ask(worker, tasks[at] as WorkerTask);
          if (result.kind === 'failed') throw packFailure(result);
          results[at] = result;
        } catch (error) {
          failure ??= error;
          this.#shared.stop();
        }
      }
    };
    await Promise.all(this.#workers.map(drain));
    if (failure !== undefined) throw failure;
    return results;
  }

  async close(): Promise<void> {
    this.#shared.stop();
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

/** Beside the bundle on a node; beside this file in a checkout, where Node runs TypeScript itself. */
function workerProgram(): string {
  const bundled = fileURLToPath(new URL('./pack-worker.mjs', import.meta.url));
  return existsSync(bundled) ? bundled : fileURLToPath(new URL('./worker.ts', import.meta.url));
}

function ask(worker: Worker, task: WorkerTask): Promise<WorkerResult> {
  return new Promise((resolve, reject) => {
    const done = (settle: () => void) => {
      worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      settle();
    };
    const onMessage = (result: WorkerResult) => done(() => resolve(result));
    const onError = (cause: unknown) =>
      done(() =>
        reject(
          new CheckpointError(Code.internal, 'Cannot pack the checkpoint: a packing thread failed', {
            cause,
          }),
        ),
      );
    const onExit = () =>
      done(() =>
        reject(new CheckpointError(Code.internal, 'Cannot pack the checkpoint: a packing thread ended')),
      );
    worker.on('message', onMessage).on('error', onError).on('exit', onExit);
    worker.postMessage(task);
  });
}
