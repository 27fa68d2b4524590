/** At most so many at a time; the rest waits in order, what is in the background behind all else. */
export class Limiter {
  #free: number;
  readonly #waiting: (() => void)[] = [];
  readonly #background: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  async run<T>(work: () => Promise<T>, { background = false } = {}): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => (background ? this.#background : this.#waiting).push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift() ?? this.#background.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
