import { randomBytes } from 'node:crypto';
import { type Cleanup, ignoreMissing } from '../cleanup.ts';
import type { Container, Containerd, Mount } from '../containerd/index.ts';
import type { LayerSplit } from './layers.ts';
import { trimLowers } from './rootfs.ts';

export interface CompareOptions {
  store: Containerd;
  /** Without lease and signal, for the removal. */
  undo: Containerd;
  cleanup: Cleanup;
  container: Container;
  /** Chain IDs of the snapshot's parents, bottom first. */
  chain: readonly string[];
  split: LayerSplit;
}

/** What the Diff service compares: a view of the base layers, and the container's own root file system. */
export async function mountsToCompare(options: CompareOptions): Promise<{ left: Mount[]; right: Mount[] }> {
  const { store, undo, cleanup, container, split } = options;
  const snapshots = store.snapshots(container.snapshotter);
  const parent = options.chain.at(-1 - split.diff) ?? '';
  const key = `thaw-view-${randomBytes(8).toString('hex')}`;
  cleanup.add(`remove the view ${key}`, () =>
    ignoreMissing(undo.snapshots(container.snapshotter).remove(key)),
  );
  const left = await snapshots.view(key, parent);
  const right = await snapshots.mounts(container.snapshotKey);
  return {
    left: trimLowers(left, split.checkpoint, 0),
    right: trimLowers(right, split.checkpoint, split.unusedDiff),
  };
}
