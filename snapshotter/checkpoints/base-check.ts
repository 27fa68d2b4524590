/** Whether the layers of a container are those that its checkpoint was taken on. Pure. */
import { chainIds } from '../../checkpoint/chain-id.ts';
import type { CheckpointFacts } from '../../checkpoint/facts.ts';
import { failedPrecondition } from '../error.ts';

export interface ExpectedLayers {
  /** Diff IDs of the index layer and the data layers, bottom first. */
  checkpoint: readonly string[];
  facts: CheckpointFacts;
}

/**
 * `actual`: chain IDs of the container's layers, bottom first; undefined where a snapshot's name is none. Throws
 * FAILED_PRECONDITION that names the first layer that differs.
 */
export function checkBase(expected: ExpectedLayers, actual: readonly (string | undefined)[]): void {
  const { checkpoint, facts } = expected;
  const { base, diff } = facts.layers;
  const diffIds = [...checkpoint, ...base.map((layer) => layer.diffId), ...(diff ? [diff.diffId] : [])];
  const chains = chainIds(diffIds);
  const from = facts.image.reference;
  const context = { image: from, layers: actual.length, expected: chains.length };
  const differs = chains.findIndex((chain, i) => actual[i] !== chain);
  if (differs < 0) {
    if (actual.length === chains.length) return;
    throw failedPrecondition(
      `Cannot restore: there are layers above those of the checkpoint (${actual.length - chains.length} more); checkpoint a container of this image instead`,
      { context },
    );
  }
  if (differs < checkpoint.length)
    throw failedPrecondition(
      `Cannot restore: checkpoint layer ${differs + 1} of ${checkpoint.length} is not the one that the index names`,
      { context },
    );
  const position = differs - checkpoint.length;
  if (position < base.length)
    throw failedPrecondition(
      `Cannot restore: the base image differs from the checkpoint's (${from}) in layer ${position + 1} of ${base.length}`,
      { context: { ...context, diffId: base[position]?.diffId } },
    );
  throw failedPrecondition(
    "Cannot restore: the layer above the base image is not the checkpoint's rootfs diff",
    {
      context: { ...context, diffId: diff?.diffId },
    },
  );
}
