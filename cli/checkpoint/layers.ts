import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { LayerFacts } from '../../checkpoint/facts.ts';
import { CHECKPOINT_JSON_NAME, THAW_DIRECTORY } from '../../checkpoint/layer-layout.ts';
import { readCheckpointFacts } from '../../checkpoint/read-facts.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { Mount } from '../containerd/index.ts';
import { CliError } from '../error.ts';
import type { RunImage } from './base-image.ts';
import { type LayerCounts, lowerDirs, runsOnDiff } from './rootfs.ts';

/** Which layers of the container's image are its base, and what lies below and above them. */
export interface LayerSplit {
  base: readonly LayerFacts[];
  /** Checkpoint layers at the bottom, which a new checkpoint drops. */
  checkpoint: number;
  /** 1 if the old rootfs diff lies in the snapshot above the base; a new diff takes its place. */
  diff: 0 | 1;
  /** 1 if it does, but the container does not run on it, as it started cold. */
  unusedDiff: 0 | 1;
}

/**
 * `mounts` are those of the container's snapshot, `running` is how many lower directories its root really has.
 * A container from an ordinary image needs neither.
 */
export async function splitLayers(
  image: RunImage,
  mounts: readonly Mount[],
  running: () => Promise<number | undefined>,
): Promise<LayerSplit> {
  const { layers, checkpointLayers } = image;
  if (checkpointLayers === 0) return { base: layers, checkpoint: 0, diff: 0, unusedDiff: 0 };
  const counts = await countsBelow(mounts);
  if (counts.checkpoint !== checkpointLayers) throw inconsistent();
  const above = layers.slice(checkpointLayers);
  const extra = above.length - counts.base - counts.diff;
  if (extra < 0) throw inconsistent();
  // Layers that somebody put on top make another image of it: all of them are its base now.
  if (extra > 0) return { base: above, checkpoint: checkpointLayers, diff: 0, unusedDiff: 0 };
  const base = above.slice(0, counts.base);
  const onDiff = counts.diff === 1 && runsOnDiff(counts, await running());
  return {
    base,
    checkpoint: checkpointLayers,
    diff: counts.diff,
    unusedDiff: counts.diff === 1 && !onDiff ? 1 : 0,
  };
}

/**
 * From checkpoint.json of the lowest layer: beside its directory if thaw-snapshotter made it, in it if the image was
 * unpacked as ordinary files (docs/architecture.md, "How a shim finds a checkpoint").
 */
async function countsBelow(mounts: readonly Mount[]): Promise<LayerCounts> {
  const lowest = lowerDirs(mounts)?.at(-1);
  if (lowest === undefined) throw inconsistent();
  const places = [
    join(dirname(lowest), CHECKPOINT_JSON_NAME),
    join(lowest, THAW_DIRECTORY, CHECKPOINT_JSON_NAME),
  ];
  let failure: unknown;
  for (const path of places) {
    try {
      const { layers } = readCheckpointFacts(await readFile(path));
      return { checkpoint: layers.checkpoint, base: layers.base.length, diff: layers.diff === null ? 0 : 1 };
    } catch (error) {
      failure ??= describeError(error).code === Code.notFound ? undefined : error;
    }
  }
  throw inconsistent(failure);
}

function inconsistent(cause?: unknown): CliError {
  return new CliError(
    Code.failedPrecondition,
    'Cannot tell the base layers of the checkpoint image that the container runs from: pull that image again and start the container anew',
    cause === undefined ? {} : { cause },
  );
}
