/** What containerd knows of a snapshot. Source: containerd, snapshots.Info. */
export type Kind = 'view' | 'active' | 'committed';
export type Labels = Readonly<Record<string, string>>;

export interface SnapshotInfo {
  /** Key of a view or active snapshot, name of a committed one. */
  name: string;
  /** Name of the parent, or empty. */
  parent: string;
  kind: Kind;
  /** Nanoseconds since the epoch. */
  created: bigint;
  updated: bigint;
  labels: Labels;
}

/** With what only this daemon knows. */
export interface Snapshot extends SnapshotInfo {
  /** Directory below snapshots/. Committed snapshots of one layer may share it. */
  directory: Directory;
}

export interface Directory {
  id: number;
  /** Digest of the uncompressed layer tar that the directory was unpacked from, where that is proven. */
  diffId: string | undefined;
  /** Digest of the index, if the directory stands for a checkpoint layer. */
  checkpoint: string | undefined;
  /** Digest of the index, if it is where a lazy layer is mounted. */
  layer: string | undefined;
}

/** Disk use as containerd counts it: allocated bytes and inodes, a file with several links once. */
export interface Usage {
  size: bigint;
  inodes: bigint;
}
