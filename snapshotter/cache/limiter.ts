/** At most so many at a time; the rest waits, by rank and then in order. */
import { type Rank, ranks } from './rank.ts';

export class Limiter {
  #free: number;
  readonly #waiting = new Map<Rank, (() => void)[]>(ranks.map((rank) => [rank, []]));
  readonly #calmMs: number;
  /** Of better ranks than the background. */
  #needed = 0;
  #calm = true;
  #calming: NodeJS.Timeout | undefined;
  readonly #untilCalm = new Set<() => void>();

  /**
   * `calmMs`: the background waits while anything else is done here, and so long after it. Who has just got its last bytes
   * begins to work with them, and has link and processors for that.
   */
  constructor(limit: number, { calmMs = 0 } = {}) {
    this.#free = limit;
    this.#calmMs = calmMs;
  }

  /**
   * Does one piece after the other until there is none. Between two of them, whoever is of a better rank has a turn, or waits
   * longer. `signal` ends the background's wait for calm, and with it the whole.
   */
  async each(rank: Rank, work: () => Promise<boolean>, signal?: AbortSignal): Promise<void> {
    if (rank === 'background') return this.#eachInCalm(work, signal);
    this.#disturb();
    try {
      await this.#turn(rank);
      try {
        while (await work()) {
          // Given back first, others behind it in rank would have it.
          const turn = this.#turn(rank);
          this.#release();
          await turn;
        }
      } finally {
        this.#release();
      }
    } finally {
      this.#soothe();
    }
  }

  async #eachInCalm(work: () => Promise<boolean>, signal?: AbortSignal): Promise<void> {
    for (let more = true; more; ) {
      while (!this.#calm && !signal?.aborted) await this.#untilCalmOr(signal);
      if (signal?.aborted) return;
      await this.#turn('background');
      try {
        more = await work();
      } finally {
        this.#release();
      }
    }
  }

  async #untilCalmOr(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#untilCalm.add(resolve);
    const go = () => resolve();
    signal?.addEventListener('abort', go);
    await promise;
    signal?.removeEventListener('abort', go);
    this.#untilCalm.delete(resolve);
  }

  #disturb(): void {
    this.#needed++;
    this.#calm = false;
    clearTimeout(this.#calming);
  }

  #soothe(): void {
    if (--this.#needed > 0) return;
    this.#calming = setTimeout(() => {
      this.#calm = true;
      for (const go of this.#untilCalm) go();
    }, this.#calmMs).unref();
  }

  async #turn(rank: Rank): Promise<void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.get(rank)?.push(resolve));
  }

  #release(): void {
    const next = ranks.map((rank) => this.#waiting.get(rank)).find((queue) => queue && queue.length > 0);
    if (next) next.shift()?.();
    else this.#free++;
  }
}
