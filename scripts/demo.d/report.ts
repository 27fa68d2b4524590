/** What the demo prints. Pure but for Steps, which is told where to write and what time it is. */

const width = 62;

export class Steps {
  readonly #write: (text: string) => void;
  readonly #now: () => number;

  constructor(write: (text: string) => void, now: () => number = () => performance.now()) {
    this.#write = write;
    this.#now = now;
  }

  /** One line a step: what is done, then how long it took. The result may add a remark. */
  async step<T>(title: string, work: () => Promise<T>, remark?: (result: T) => string): Promise<T> {
    this.#write(`${title.padEnd(width)} `);
    return this.#timed(work, remark);
  }

  /** As `step`, for work that writes to the terminal itself: its time comes on a line of its own. */
  async talkingStep<T>(title: string, work: () => Promise<T>, remark?: (result: T) => string): Promise<T> {
    this.#write(`${title}\n`);
    return this.#timed(work, remark, `${'  done'.padEnd(width)} `);
  }

  async #timed<T>(work: () => Promise<T>, remark?: (result: T) => string, prefix = ''): Promise<T> {
    const began = this.#now();
    const taken = () => `${prefix}${((this.#now() - began) / 1000).toFixed(2).padStart(7)} s`;
    try {
      const result = await work();
      this.#write(`${taken()}${remark === undefined ? '' : `  ${remark(result)}`}\n`);
      return result;
    } catch (error) {
      this.#write(`${taken()}  failed\n`);
      throw error;
    }
  }

  line(text: string): void {
    this.#write(`${text}\n`);
  }
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

export function seconds(value: number): string {
  return `${value.toFixed(2)} s`;
}
