/**
 * Fetch threads: what arrives is read, verified, decoded and written there, so that the daemon answers at once however
 * fast bytes come. Called by daemon.ts.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { FindCredentials } from '../../checkpoint/registry/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { BlobSource, RangeJob, TransferEvents, Transfers } from '../cache/index.ts';
import { SnapshotError } from '../error.ts';
import {
  type CredentialsWanted,
  type FromWorker,
  type JobReport,
  packError,
  type ToWorker,
  unpackError,
  type WorkerSetup,
} from './protocol.ts';

export interface FetchThreadsOptions {
  setup: Omit<WorkerSetup, 'nice'>;
  credentials: FindCredentials;
  /** For what a start needs, and as many again for what is in the background. */
  threads: number;
  /** For sources that only this thread has. */
  direct: Transfers;
  /** Without anything to do for so long the threads are ended: each takes some megabytes. */
  idleMs: number;
}

interface Pending {
  events: TransferEvents;
  resolve(): void;
  reject(error: unknown): void;
}

interface Thread {
  worker: Worker;
  jobs: Map<number, Pending>;
}

/** Whoever starts meanwhile has the processors: threads of the background run on what is left. */
const BACKGROUND_NICE = 15;

export class FetchThreads implements Transfers {
  readonly #options: FetchThreadsOptions;
  readonly #threads: Thread[] = [];
  readonly #background: Thread[] = [];
  #lastJob = 0;
  #idle: NodeJS.Timeout | undefined;

  constructor(options: FetchThreadsOptions) {
    this.#options = options;
  }

  /** Starts the threads: something will be fetched soon. */
  warm(): void {
    while (this.#threads.length < this.#options.threads) this.#start(this.#threads);
    this.#endWhenIdle();
  }

  run(
    range: RangeJob,
    source: BlobSource,
    directory: string,
    events: TransferEvents,
    signal: AbortSignal,
  ): Promise<void> {
    const { spec } = source;
    if (!spec) return this.#options.direct.run(range, source, directory, events, signal);
    signal.throwIfAborted();
    clearTimeout(this.#idle);
    const thread = this.#leastBusy(range.rank === 'background' ? this.#background : this.#threads);
    const job = ++this.#lastJob;
    const send = (message: ToWorker) => thread.worker.postMessage(message);
    const onAbort = () => send({ kind: 'abort', job });
    return new Promise<void>((resolve, reject) => {
      thread.jobs.set(job, { events, resolve, reject });
      // It settles when the thread says so: until then it may write.
      signal.addEventListener('abort', onAbort, { once: true });
      send({ kind: 'fetch', job, range, source: spec, directory });
    }).finally(() => {
      signal.removeEventListener('abort', onAbort);
      thread.jobs.delete(job);
      this.#endWhenIdle();
    });
  }

  /** Ends the threads; what they still do fails. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    const all = [...this.#threads.splice(0), ...this.#background.splice(0)];
    await Promise.all(all.map(({ worker }) => worker.terminate()));
  }

  #endWhenIdle(): void {
    clearTimeout(this.#idle);
    if ([...this.#threads, ...this.#background].some(({ jobs }) => jobs.size > 0)) return;
    this.#idle = setTimeout(() => void this.close(), this.#options.idleMs).unref();
  }

  #leastBusy(threads: Thread[]): Thread {
    if (threads.length < this.#options.threads) return this.#start(threads);
    return threads.reduce((least, thread) => (thread.jobs.size < least.jobs.size ? thread : least));
  }

  #start(threads: Thread[]): Thread {
    const nice = threads === this.#background ? BACKGROUND_NICE : 0;
    const worker = new Worker(workerProgram(), {
      workerData: { ...this.#options.setup, nice } satisfies WorkerSetup,
      name: 'thaw-fetch',
      env: {},
      // The addon opens descriptors that Node closes; Node would warn of each.
      trackUnmanagedFds: false,
    });
    const thread: Thread = { worker, jobs: new Map() };
    const end = (cause?: unknown) => {
      const at = threads.indexOf(thread);
      if (at >= 0) threads.splice(at, 1);
      const why = cause === undefined ? '' : `: ${describeError(cause).message}`;
      const error = new SnapshotError(
        Code.unavailable,
        `Cannot fetch the checkpoint: a fetch thread ended${why}`,
        { cause },
      );
      for (const { reject } of thread.jobs.values()) reject(error);
    };
    worker.on('message', (message: FromWorker) => {
      if (message.kind === 'credentials') void this.#answer(worker, message);
      else tell(thread, message);
    });
    worker.on('error', end);
    worker.on('exit', () => end());
    threads.push(thread);
    return thread;
  }

  async #answer(worker: Worker, { ask, request }: CredentialsWanted): Promise<void> {
    const answer = await this.#options.credentials(request).then(
      (found): ToWorker => ({ kind: 'credentials', ask, found }),
      (error: unknown): ToWorker => ({ kind: 'no credentials', ask, error: packError(error) }),
    );
    worker.postMessage(answer);
  }
}

function tell({ jobs }: Thread, message: JobReport): void {
  const pending = jobs.get(message.job);
  if (!pending) return;
  const { events, resolve, reject } = pending;
  if (message.bytes > 0) events.onBytes(message.bytes, message.mirrored);
  switch (message.kind) {
    case 'stored':
      events.onStored(message.ordinal);
      return;
    case 'corrupt':
      events.onCorrupt(message.ordinal, unpackError(message.error));
      return;
    case 'unreadable':
      events.onUnreadable(unpackError(message.error));
      return;
    case 'done':
      resolve();
      return;
    case 'failed':
      reject(unpackError(message.error));
      return;
  }
}

/** Beside the bundle on a node; beside this file in a checkout, where Node runs TypeScript itself. */
function workerProgram(): string {
  const bundled = fileURLToPath(new URL('./fetch-worker.mjs', import.meta.url));
  return existsSync(bundled) ? bundled : fileURLToPath(new URL('./worker.ts', import.meta.url));
}
