/** What one attempt to fetch a checkpoint reads next: what somebody waits for, else the stream. Pure. */
import type { ChunkIndex } from '../../checkpoint/index-format.ts';
import {
  DEFAULT_PLAN,
  DEMAND_PLAN,
  LEAD_PLAN,
  type PlannedRange,
  planDemand,
  planRanges,
  restOfRange,
} from './plan.ts';

export class TransferQueue {
  readonly #index: ChunkIndex;
  readonly #missing: (ordinal: number) => boolean;
  /** Last one first. */
  readonly #stream: PlannedRange[];
  /** What the order names, where it is a stream of its own that goes before. Last one first. */
  readonly #lead: PlannedRange[];
  /** One list for each wish; they take turns, so that a single chunk does not wait for a thousand. */
  readonly #wishes: Wish[] = [];
  /** Transfers under way for a chunk. */
  readonly #underWay = new Map<number, number>();

  /**
   * `missing` is asked again whenever something is taken: neither here nor given up. `leadAlone`: what the order does not
   * name is not read along with what it does.
   */
  constructor(index: ChunkIndex, missing: (ordinal: number) => boolean, { leadAlone = false } = {}) {
    this.#index = index;
    this.#missing = missing;
    const lead = new Set(leadAlone ? index.accessOrder : []);
    this.#lead = planRanges(index, (ordinal) => lead.has(ordinal) && missing(ordinal), LEAD_PLAN).reverse();
    this.#stream = planRanges(index, (ordinal) => !lead.has(ordinal) && missing(ordinal)).reverse();
  }

  /** Brings chunks before the stream. `again`: also those that are under way already. */
  want(ordinals: readonly number[], { again = false } = {}): void {
    if (ordinals.length === 0) return;
    this.#wishes.push({ ranges: planDemand(this.#index, ordinals).reverse(), again });
  }

  /** Whether there may be something for takeDemand. */
  get hasDemand(): boolean {
    return this.#wishes.length > 0;
  }

  isUnderWay(ordinal: number): boolean {
    return this.#underWay.has(ordinal);
  }

  takeDemand(): PlannedRange | undefined {
    for (let wish = this.#wishes.shift(); wish; wish = this.#wishes.shift()) {
      const { again } = wish;
      const skip = (ordinal: number) => !this.#missing(ordinal) || (!again && this.isUnderWay(ordinal));
      const range = this.#takeFrom(wish.ranges, skip, DEMAND_PLAN.maxGap);
      if (!range) continue;
      this.#wishes.push(wish);
      return range;
    }
    return undefined;
  }

  /** Of what the order names, with `leadAlone`. */
  takeLead(): PlannedRange | undefined {
    return this.#takeNext(this.#lead);
  }

  takeStream(): PlannedRange | undefined {
    return this.takeLead() ?? this.#takeNext(this.#stream);
  }

  /** The transfer of a range that was taken has ended, however. */
  release({ ordinals }: PlannedRange): void {
    for (const ordinal of ordinals) {
      const transfers = (this.#underWay.get(ordinal) ?? 1) - 1;
      if (transfers === 0) this.#underWay.delete(ordinal);
      else this.#underWay.set(ordinal, transfers);
    }
  }

  #takeNext(ranges: PlannedRange[]): PlannedRange | undefined {
    const skip = (ordinal: number) => !this.#missing(ordinal) || this.isUnderWay(ordinal);
    return this.#takeFrom(ranges, skip, DEFAULT_PLAN.maxGap);
  }

  #takeFrom(
    ranges: PlannedRange[],
    skip: (ordinal: number) => boolean,
    maxGap: number,
  ): PlannedRange | undefined {
    for (let range = ranges.pop(); range; range = ranges.pop()) {
      const [first, ...others] = restOfRange(this.#index, range, skip, { maxGap });
      ranges.push(...others.reverse());
      if (!first) continue;
      for (const ordinal of first.ordinals)
        this.#underWay.set(ordinal, (this.#underWay.get(ordinal) ?? 0) + 1);
      return first;
    }
    return undefined;
  }
}

interface Wish {
  /** Last one first. */
  ranges: PlannedRange[];
  again: boolean;
}
