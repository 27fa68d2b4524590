/** Which layer of a checkpoint a Prepare is for. Pure. */
import type { DataLayer } from '../../checkpoint/index-format.ts';
import { chainId } from '../chain-id.ts';
import { failedPrecondition } from '../error.ts';
import type { CheckpointLayerLabels } from './labels.ts';

export type LayerPosition = { kind: 'index' } | { kind: 'data'; ordinal: number };

/**
 * The layer's place, proven by chain IDs: `target` is the chain ID that the unpacker expects, `parentChain` that of
 * the parent snapshot. FAILED_PRECONDITION if the layers do not lie as docs/image-format.md says: the index layer at
 * the bottom, the data layers on it in the index's order.
 */
export function layerPosition(
  { location, layerDigest }: Pick<CheckpointLayerLabels, 'location' | 'layerDigest'>,
  target: string,
  parentChain: string | undefined,
  dataLayers: readonly DataLayer[],
): LayerPosition {
  if (chainId(parentChain, layerDigest) !== target)
    throw failedPrecondition(
      'Cannot take the layer as it is: its chain ID is not that of its parent and its digest, so it is compressed or not a checkpoint layer',
      { context: { target, layer: layerDigest } },
    );
  let chain: string = location.blob;
  if (chain === target) return { kind: 'index' };
  for (const [ordinal, { digest }] of dataLayers.entries()) {
    chain = chainId(chain, digest);
    if (chain === target) return { kind: 'data', ordinal };
  }
  throw failedPrecondition(
    'Cannot take the layer as it is: it does not lie where the index of the checkpoint has it',
    { context: { target, layer: layerDigest } },
  );
}
