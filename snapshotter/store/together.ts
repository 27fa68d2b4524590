/** Steps of many in one transaction: all that are asked for in one turn of the event loop. */

export interface TogetherOptions {
  /** Does steps in a transaction, and throws if it could not be written: then nothing of it was. */
  transaction: (steps: () => void) => void;
  /** SQLite gave up the transaction because of an error within. */
  lost: () => boolean;
  /** Whoever will write waits for it; undefined where nobody must. */
  turn: () => Promise<void> | undefined;
}

/** Does its steps, and answers what tells the caller how that went. */
type Job = () => () => void;

export class Together {
  readonly #options: TogetherOptions;
  #jobs: Job[] = [];
  #busy = false;

  constructor(options: TogetherOptions) {
    this.#options = options;
  }

  /** Steps of many are being done. */
  get busy(): boolean {
    return this.#busy;
  }

  /** `steps` undo what they did before they throw. Rejects with what they throw, or what kept the transaction from the log. */
  do<T>(steps: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const job: Job = () => {
        try {
          const result = steps();
          return () => resolve(result);
        } catch (error) {
          return () => reject(error);
        }
      };
      if (this.#jobs.push(job) === 1) setImmediate(() => void this.#go());
    });
  }

  async #go(): Promise<void> {
    await this.#options.turn();
    const jobs = this.#jobs;
    this.#jobs = [];
    for (const tell of (jobs.length > 1 && this.#all(jobs)) || jobs.map((job) => job())) tell();
  }

  /** Undefined where the transaction was not written: whose fault that was shows when each is done alone. */
  #all(jobs: readonly Job[]): (() => void)[] | undefined {
    const told: (() => void)[] = [];
    this.#busy = true;
    try {
      this.#options.transaction(() => {
        for (const job of jobs) {
          told.push(job());
          if (this.#options.lost()) throw new Error('The transaction was given up');
        }
      });
      return told;
    } catch {
      return undefined;
    } finally {
      this.#busy = false;
    }
  }
}
