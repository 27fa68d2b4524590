/** What the kernel's control groups say of a container. For the task service. */
export type { ContainerCgroup } from './container-cgroup.ts';
export { CgroupFinder } from './finder.ts';
export type { EncodedStats } from './stats.ts';
