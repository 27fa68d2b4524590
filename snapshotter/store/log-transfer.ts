/**
 * Has what is in SQLite's log put into the database by a thread: both files are flushed for that, and the event loop would
 * stand still meanwhile. SQLite writes its log from the beginning again once it finds all of it in the database. Source:
 * sqlite.org/wal.html; a passive checkpoint waits for nobody, and nobody for it.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

/** Transactions: some 1000 pages, after which SQLite itself would do it. */
const EVERY = 250;
/** Pages in the log from which on writers wait, so that it ends where they never pause. 16 MiB. */
const MOST_PAGES = 4_000;
/** The thread takes some megabytes, and starts within some 50 ms. */
const IDLE_MS = 2_000;

/** Answers how many pages the log has. */
export type Transfer = () => Promise<number>;

export class LogTransfer {
  readonly #transfer: Transfer;
  readonly #onFailed: (error: unknown) => void;
  #waiting = 0;
  #running: Promise<void> | undefined;
  #turn: Promise<void> | undefined;

  /** `onFailed`: the log has everything still, and the next transfer tries again. */
  constructor(transfer: Transfer, onFailed: (error: unknown) => void) {
    this.#transfer = transfer;
    this.#onFailed = onFailed;
  }

  /** After each transaction. */
  wrote(): void {
    this.#waiting++;
    if (this.#waiting >= EVERY) this.#running ??= this.#run();
  }

  /** Whoever will write waits for it; undefined where nobody must. */
  turn(): Promise<void> | undefined {
    return this.#turn;
  }

  /** Ends with the transfer under way. */
  async settle(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    this.#waiting = 0;
    try {
      if ((await this.#transfer()) < MOST_PAGES) return;
      // Others wrote meanwhile, as always so far.
      const last = this.#transfer();
      this.#turn = last.then(
        () => {},
        () => {},
      );
      await last;
    } catch (error) {
      this.#onFailed(error);
    } finally {
      this.#turn = undefined;
      this.#running = undefined;
    }
  }
}

/** Transfers in a thread that ends when there was nothing to do for a while. */
export class TransferThread {
  readonly #database: string;
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;

  constructor(database: string) {
    this.#database = database;
  }

  /** One at a time. */
  run(): Promise<number> {
    clearTimeout(this.#idle);
    this.#worker ??= this.#start();
    const worker = this.#worker;
    worker.ref();
    return new Promise<number>((resolve, reject) => {
      const ended = () => reject(new Error('The thread ended'));
      worker.once('message', (pages: number) => {
        worker.off('error', reject).off('exit', ended);
        resolve(pages);
      });
      worker.once('error', reject).once('exit', ended);
      worker.postMessage(undefined);
    }).finally(() => {
      worker.unref();
      this.#idle = setTimeout(() => this.close(), IDLE_MS).unref();
    });
  }

  /** What is under way may end later: that harms nobody. */
  close(): void {
    clearTimeout(this.#idle);
    void this.#worker?.terminate();
    this.#worker = undefined;
  }

  #start(): Worker {
    const worker = new Worker(workerProgram(), { workerData: this.#database, name: 'thaw-log', env: {} });
    worker.once('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
    });
    return worker;
  }
}

/** Beside the bundle on a node; beside this file in a checkout, where Node runs TypeScript itself. */
function workerProgram(): string {
  const bundled = fileURLToPath(new URL('./log-worker.mjs', import.meta.url));
  return existsSync(bundled) ? bundled : fileURLToPath(new URL('./log-worker.ts', import.meta.url));
}
