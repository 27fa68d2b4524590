/** What a container is made of, and what it is made with. */
import type { CgroupFinder } from '../cgroup/index.ts';
import type { TaskEvent } from '../events/index.ts';
import type { Log } from '../log.ts';
import type { MountCalls } from '../mounts/index.ts';
import type { ExitWatcher } from '../process/exits.ts';
import type { ExecFifoCalls } from '../runc/exec-fifo.ts';
import type { Runc } from '../runc/runc.ts';
import type { IoDeps, StdioPaths } from '../stdio/index.ts';
import type { OciSpec } from './oci-spec.ts';
import type { RuncOptions } from './options.ts';
import type { ContainerPaths, PrepareDump } from './start-plan.ts';

export interface ContainerDeps {
  calls: MountCalls & IoDeps['calls'] & ExecFifoCalls;
  watcher: Pick<ExitWatcher, 'watch' | 'holding'>;
  publish: (event: TaskEvent) => void;
  prepareDump: PrepareDump;
  cgroups: Pick<CgroupFinder, 'find'>;
  /** Nanoseconds since 1970. */
  now: () => bigint;
  log: Log;
}

export interface ContainerConfig extends ContainerPaths {
  spec: OciSpec;
  options: RuncOptions;
  stdio: StdioPaths;
  runc: Runc;
}
