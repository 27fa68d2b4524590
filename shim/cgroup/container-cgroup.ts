/** The cgroup of one container. */
import type { CgroupPlace } from './locate.ts';
import { type OomCalls, type OomWatch, watchOom } from './oom.ts';
import { listedDir, pidsBelow } from './pids.ts';
import type { EncodedStats, StatsCalls } from './stats.ts';

export type CgroupCalls = StatsCalls & OomCalls;

export class ContainerCgroup {
  readonly #place: CgroupPlace;
  readonly #calls: CgroupCalls;
  #oom: OomWatch | undefined;
  #onOom: (() => void) | undefined;
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

  /** Whatever is to be counted in it. Rejects where the kernel refuses to, which a container can live with. */
  async enableControllers(): Promise<void> {
    if (this.#place.version !== 'v2') return;
    const { enableControllers } = await import('./controllers.ts');
    try {
      enableControllers(this.#place.mount, this.#place.dir);
    } finally {
      // memory.events may be there only now.
      if (this.#onOom && !this.#oom) this.watchOom(this.#onOom);
    }
  }

  /** Calls back for each kill for want of memory, until `close`. */
  watchOom(onOom: () => void): void {
    this.#onOom = onOom;
    this.#oom = watchOom(this.#place, this.#calls, onOom);
  }

  /** Looks for such a kill now, before the exit of its victim is reported. */
  checkOom(): void {
    this.#oom?.check();
  }

  close(): void {
    this.#oom?.close();
    this.#oom = undefined;
    this.#onOom = undefined;
  }

  async #read(): Promise<EncodedStats> {
    const { readStats } = await import('./stats.ts');
    return readStats(this.#place, this.#calls);
  }
}
