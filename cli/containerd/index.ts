/**
 * A client of containerd's public gRPC services over its unix socket: what the CLI and the demo need of them, typed.
 * Every call has a deadline; every failure is a CliError. May be used by cli/ and scripts/; knows nothing of thaw.
 */
export { type Containerd, type ContainerdOptions, createContainerd } from './client.ts';
export type { Container } from './containers.ts';
export type { Image } from './images.ts';
export type { TaskState } from './tasks.ts';
export type { ContentInfo, Descriptor, Mount, SnapshotInfo } from './types.ts';
