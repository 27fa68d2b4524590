/** When nothing is fetched that somebody needs. */
import { setTimeout as sleep } from 'node:timers/promises';

export interface CalmOptions {
  /** How long nothing may have been under way. */
  ms: number;
  /** Longest wait: what stalls, or never ends, must not keep the background for ever. */
  atMostMs: number;
  /** Monotonic milliseconds. */
  clock: () => number;
}

export class Calm {
  readonly #options: CalmOptions;
  #underWay = 0;
  #since = Number.NEGATIVE_INFINITY;

  constructor(options: CalmOptions) {
    this.#options = options;
  }

  begin(): void {
    this.#underWay++;
  }

  end(): void {
    this.#underWay--;
    this.#since = this.#options.clock();
  }

  /** Resolves when it is calm or `enough` holds, after the longest wait, or when the signal aborts; until then it looks every now and then. */
  async wait(enough: () => boolean, signal: AbortSignal): Promise<void> {
    const { ms, atMostMs, clock } = this.#options;
    const end = clock() + atMostMs;
    while (this.#leftMs > 0 && clock() < end && !enough() && !signal.aborted)
      await sleep(ms / 10, undefined, { signal }).catch(() => {});
  }

  get #leftMs(): number {
    const { ms, clock } = this.#options;
    return this.#underWay > 0 ? ms : this.#since + ms - clock();
  }
}
