/**
 * Layers that this node has unpacked already, under another chain. A checkpoint image is its base image on top of
 * checkpoint layers: the same layers, but new chain IDs, and nobody wants to download and unpack them again.
 *
 * Which layer a directory holds is only known when it is proven: a list of diff IDs whose chain ID is that of a committed
 * snapshot names that snapshot's layer, since nobody can find two lists with one chain ID. And a directory is only
 * reused above the same directories (checkpoint layers are empty and do not count): where a tar has no entry for a
 * parent directory, unpacking copies its owner and mode from the layers below.
 */
import { chainIds } from '../../checkpoint/chain-id.ts';
import { chainId, chainOfName } from '../chain-id.ts';
import type { OverlaySnapshotter } from '../overlay/index.ts';
import type { Labels, Snapshot } from '../store/index.ts';

/** Records which layers the directories of an image hold, as far as this node has it. */
export function learnLayers(snapshotter: OverlaySnapshotter, diffIds: readonly string[]): void {
  const { store } = snapshotter;
  for (const [i, chain] of chainIds(diffIds).entries()) {
    for (const { directory } of store.committedAs(chain))
      if (directory.diffId === undefined && !directory.checkpoint && !directory.layer)
        store.setDiffId(directory.id, diffIds[i] as string);
  }
}

/** Commits `target` with the directory of a layer that is here. False if none fits. */
export async function shareLayer(
  snapshotter: OverlaySnapshotter,
  target: string,
  parent: string,
  labels: Labels,
): Promise<boolean> {
  const { store } = snapshotter;
  const parentChain = chainOfName(parent);
  if (parent !== '' && parentChain === undefined) return false;
  const below = parent === '' ? [] : ordinary([store.get(parent), ...store.ancestors(parent)]);
  const fits = (candidate: Snapshot) =>
    candidate.directory.diffId !== undefined &&
    chainId(parentChain, candidate.directory.diffId) === target &&
    sameElements(ordinary(store.ancestors(candidate.name)), below);
  const found = store.committedLayers().find(fits);
  if (!found) return false;
  await snapshotter.createReady({
    name: target,
    parent,
    labels,
    content: { kind: 'shared', directory: found.directory.id },
  });
  return true;
}

function ordinary(snapshots: readonly Snapshot[]): number[] {
  return snapshots.filter((s) => s.directory.checkpoint === undefined).map((s) => s.directory.id);
}

function sameElements(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((element, i) => element === b[i]);
}
