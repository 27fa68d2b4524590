/** At most so many at a time; the rest waits, by rank and then in order. */
import { type Rank, ranks } from './rank.ts';

export class Limiter {
  #free: number;
  readonly #waiting = new Map<Rank, (() => void)[]>(ranks.map((rank) => [rank, []]));

  constructor(limit: number) {
    this.#free = limit;
  }

  /** Does one piece after the other until there is none. Between two of them, whoever is of a better rank has a turn, or waits longer. */
  async each(rank: Rank, work: () => Promise<boolean>): Promise<void> {
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
