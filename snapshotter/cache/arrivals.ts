/** When a chunk that a range under way is bringing will be here. Pure: time comes in from outside. */
import type { ChunkIndex } from '../../checkpoint/index-format.ts';
import { chunkAt } from './chunk-lookup.ts';
import type { PlannedRange } from './plan.ts';

interface Arrival {
  range: PlannedRange;
  started: number;
  received: number;
}

export class Arrivals {
  readonly #index: ChunkIndex;
  readonly #clock: () => number;
  readonly #underWay = new Map<PlannedRange, Arrival>();

  /** `clock`: monotonic milliseconds. */
  constructor(index: ChunkIndex, clock: () => number) {
    this.#index = index;
    this.#clock = clock;
  }

  begin(range: PlannedRange): void {
    this.#underWay.set(range, { range, started: this.#clock(), received: 0 });
  }

  received(range: PlannedRange, bytes: number): void {
    const arrival = this.#underWay.get(range);
    if (arrival) arrival.received += bytes;
  }

  end(range: PlannedRange): void {
    this.#underWay.delete(range);
  }

  /** Milliseconds until the chunk's last byte comes, at the speed of its range so far; Infinity if none brings it. */
  millisecondsTo(ordinal: number): number {
    let soonest = Number.POSITIVE_INFINITY;
    for (const { range, started, received } of this.#underWay.values()) {
      if (!range.ordinals.includes(ordinal)) continue;
      const { layerOffset, storedLength } = chunkAt(this.#index, ordinal).chunk;
      const left = Math.max(0, Number(layerOffset) + storedLength - range.offset - received);
      const elapsed = this.#clock() - started;
      if (left === 0) soonest = 0;
      else if (received > 0) soonest = Math.min(soonest, (left * elapsed) / received);
    }
    return soonest;
  }
}
