/**
 * Helpers for the integration tests, for use inside a test node (`scripts/node exec`). Tests import from here; nothing
 * that is shipped does. CRI has a module of its own, ./cri/.
 */
export { Containerd, type ContainerdOptions, containerdVersion } from './containerd.ts';
export type { ContainerdVersion } from './containerd-config.ts';
export { CrashPoint, isStopped } from './crash-point.ts';
export { privateDir, runDir } from './dirs.ts';
export { TestError } from './error.ts';
export { type TaskEvents, watchEvents } from './events.ts';
export {
  type Blob,
  blob,
  busybox,
  type Entry,
  type Image,
  type ImageConfig,
  image,
  imageTar,
  layer,
  pauseImage,
  push,
} from './image.ts';
export { assertNothingLeft, type Leftovers, takeStock } from './leftovers.ts';
export { Daemon, type RunOptions, type RunResult, run } from './program.ts';
export { freePort, Registry, type RegistryRequest } from './registry.ts';
export { bundleOf, callShim } from './shim-client.ts';
export { Snapshotter, type SnapshotterOptions } from './snapshotter.ts';
export { ClientReader, ClientStreams, ClientWriter, TaskClient } from './task-client.ts';
export { sleep, until } from './wait.ts';
