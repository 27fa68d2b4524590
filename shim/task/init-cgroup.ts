/** The cgroup of a container, from the moment when its init is known. What cannot be had of it is only said. */
import { Code, describeError } from '../../proto/status.ts';
import type { CgroupFinder, ContainerCgroup, EncodedStats } from '../cgroup/index.ts';
import { ShimError } from '../error.ts';
import type { Log } from '../log.ts';
import { warnOf } from './warn-of.ts';

export interface InitCgroupDeps {
  cgroups: Pick<CgroupFinder, 'find'>;
  /** A process was killed for want of memory. */
  onOom: () => void;
  /** With the container's name. */
  log: Log;
}

export class InitCgroup {
  readonly #cgroupsPath: string | undefined;
  readonly #deps: InitCgroupDeps;
  #cgroup: ContainerCgroup | undefined;

  constructor(cgroupsPath: string | undefined, deps: InitCgroupDeps) {
    this.#cgroupsPath = cgroupsPath;
    this.#deps = deps;
  }

  /** From here on and not from Start: the init may have no time between its start and its end. */
  find(pid: number): void {
    const { cgroups, onOom, log } = this.#deps;
    try {
      this.close();
      this.#cgroup = cgroups.find(pid, this.#cgroupsPath);
      this.#cgroup?.watchOom(onOom);
      void this.#cgroup?.enableControllers().catch((error: unknown) => {
        log.debug({ reason: describeError(error).message }, 'cannot enable all controllers');
      });
    } catch (error) {
      warnOf(this.#deps.log, 'cannot watch its cgroup')(error);
    }
  }

  /** Who hears of the exit shall know why. */
  checkOom(): void {
    try {
      this.#cgroup?.checkOom();
    } catch (error) {
      warnOf(this.#deps.log, 'cannot read its cgroup')(error);
    }
  }

  /** NotFound if the container is in no cgroup of its own. */
  async stats(): Promise<EncodedStats> {
    if (!this.#cgroup) throw new ShimError(Code.notFound, 'cgroup does not exist');
    return this.#cgroup.stats();
  }

  /** Undefined if it is in no cgroup of its own. */
  pids(): Promise<number[]> | undefined {
    return this.#cgroup?.pids();
  }

  close(): void {
    this.#cgroup?.close();
  }
}
