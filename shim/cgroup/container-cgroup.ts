/** The cgroup of one container. */
import type { CgroupPlace } from './locate.ts';
import { listedDir, pidsBelow } from './pids.ts';

export class ContainerCgroup {
  readonly place: CgroupPlace;

  constructor(place: CgroupPlace) {
    this.place = place;
  }

  /** Of everything in it; empty where it is gone. */
  async pids(): Promise<number[]> {
    const dir = listedDir(this.place);
    return dir === undefined ? [] : pidsBelow(dir);
  }
}
