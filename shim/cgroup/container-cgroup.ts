/** The cgroup of one container. */
import type { CgroupPlace } from './locate.ts';
import { listedDir, pidsBelow } from './pids.ts';
import type { EncodedStats, StatsCalls } from './stats.ts';

export type CgroupCalls = StatsCalls;

export class ContainerCgroup {
  readonly #place: CgroupPlace;
  readonly #calls: CgroupCalls;
  #reading: Promise<EncodedStats> | undefined;

  constructor(place: CgroupPlace, calls: CgroupCalls) {
    this.#place = place;
    this.#calls = calls;
  }

  /** Of everything in it; empty where it is gone. */
  async pids(): Promise<number[]> {
    const dir = listedDir(this.#place);
    return dir === undefined ? [] : pidsBelow(dir);
  }

  /** Who asks while it is being read gets the same answer. NotFound if it is gone. */
  stats(): Promise<EncodedStats> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<EncodedStats> {
    const { readStats } = await import('./stats.ts');
    return readStats(this.#place, this.#calls);
  }
}
