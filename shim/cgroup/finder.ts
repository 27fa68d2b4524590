/** Finds the cgroup of a process. */
import { readFileSync } from 'node:fs';
import { type CgroupCalls, ContainerCgroup } from './container-cgroup.ts';
import { type CgroupMount, cgroupMounts, placeOf } from './locate.ts';

export class CgroupFinder {
  readonly #calls: CgroupCalls;
  /** The hierarchies are mounted at boot. */
  #mounts: readonly CgroupMount[] | undefined;

  constructor(calls: CgroupCalls) {
    this.#calls = calls;
  }

  /**
   * The container's cgroup, by one of its processes and the spec's cgroupsPath. Undefined if it has none of its own, or the
   * process has ended.
   */
  find(pid: number, cgroupsPath: string | undefined): ContainerCgroup | undefined {
    this.#mounts ??= cgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
    let membership: string;
    try {
      membership = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    } catch (error) {
      if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
      throw error;
    }
    const place = placeOf(membership, this.#mounts, cgroupsPath);
    return place && new ContainerCgroup(place, this.#calls);
  }
}
