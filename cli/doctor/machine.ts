/** What the checks of `thaw doctor` may see and do of a node; node-machine.ts does it, tests invent it. */
import type { TomlTable } from 'smol-toml';
import type { NodeCheckpoint } from '../node/daemon.ts';

export interface Ran {
  /** 0 if it went well; undefined if a signal ended it. */
  code: number | undefined;
  stdout: string;
  stderr: string;
}

export interface DiskSpace {
  totalBytes: bigint;
  freeBytes: bigint;
  totalInodes: bigint;
  freeInodes: bigint;
}

/** What containerd says, over its socket. */
export interface ContainerdView {
  version(): Promise<string>;
  /** Makes an empty snapshot and removes it: nothing less reaches a proxy plug-in. Rejects with what was wrong. */
  trySnapshotter(name: string): Promise<void>;
  images(): Promise<ImageFacts[]>;
  containers(): Promise<{ id: string; image: string; runtime: string; snapshotter: string }[]>;
}

export interface ImageFacts {
  name: string;
  /** It begins with checkpoint layers. */
  isCheckpoint: boolean;
  /** Snapshotters that have it unpacked. */
  unpackedBy: readonly string[];
}

export interface Machine {
  /** `uname -r` */
  kernel: string;
  /** Undefined for a file that is not there. */
  readText(path: string): Promise<string | undefined>;
  exists(path: string): Promise<boolean>;
  /** Names in a directory; none for one that is not there. */
  list(path: string): Promise<string[]>;
  /** A variable of the environment. */
  env(name: string): string | undefined;
  /** Undefined if there is no such program. `program` may be a path. It is killed after half a minute, or `ms`. */
  run(program: string, args: readonly string[], ms?: number): Promise<Ran | undefined>;
  /** Where a program is in PATH. */
  which(program: string): Promise<string | undefined>;
  /** Of the file system that the nearest existing directory above lies on. */
  diskSpace(path: string): Promise<DiskSpace>;
  /** Mounts an overlay on directories made below and takes it away again. Undefined, or what does not work. */
  tryOverlay(path: string): Promise<string | undefined>;
  /** Resolves if somebody accepts there. Rejects with why not. */
  dial(socket: string): Promise<void>;
  checkpoints(socket: string): Promise<NodeCheckpoint[]>;
  containerd: ContainerdView;
}

/** What the daemon's configuration comes to; see snapshotter/config.ts. */
export interface DaemonConfig {
  root: string;
  state: string;
  address: string;
}

export const DEFAULT_DAEMON_CONFIG: DaemonConfig = {
  root: '/var/lib/thaw',
  state: '/run/thaw',
  address: '/run/thaw/snapshotter.sock',
};

/** containerd's merged configuration, as `containerd config dump` prints it. */
export type ContainerdConfig = TomlTable;
