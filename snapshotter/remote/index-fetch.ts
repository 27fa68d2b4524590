/** Reads index and checkpoint.json of a checkpoint from the index layer's blob. */
import type { IndexLocation } from '../../checkpoint/annotation.ts';
import { openIndex } from '../../checkpoint/index-format.ts';
import { CHECKPOINT_JSON_OFFSET } from '../../checkpoint/layer-layout.ts';
import { limits } from '../../checkpoint/limits.ts';
import { readCheckpointFacts } from '../../checkpoint/read-facts.ts';
import type { BlobSource } from '../cache/index.ts';
import { dataLoss, invalidArgument } from '../error.ts';

export interface FetchedIndex {
  indexBytes: Uint8Array;
  checkpointJson: Uint8Array;
}

/** Tar headers and padding around checkpoint.json, with room to spare. */
const MAX_INDEX_OFFSET = CHECKPOINT_JSON_OFFSET + limits.checkpointJsonBytes + 64 * 1024;

/**
 * One range request from the blob's start to the index's end: checkpoint.json lies before the index. Both are checked
 * against their digests. Throws INVALID_ARGUMENT, DATA_LOSS, or what the source throws.
 */
export async function fetchIndex(
  source: BlobSource,
  location: IndexLocation,
  signal: AbortSignal,
): Promise<FetchedIndex> {
  if (location.offset > MAX_INDEX_OFFSET)
    throw invalidArgument(
      `Cannot read the index of the checkpoint: it lies ${location.offset} bytes into its layer`,
    );
  const length = location.offset + location.length;
  const head = Buffer.allocUnsafeSlow(length);
  let received = 0;
  for await (const piece of source.read({ digest: location.blob, dataLayer: undefined }, 0, length, signal)) {
    if (received + piece.byteLength > length) break;
    head.set(piece, received);
    received += piece.byteLength;
  }
  if (received < length)
    throw dataLoss(
      `Cannot read the index of the checkpoint: its layer ends after ${received} of ${length} bytes`,
    );
  const indexBytes = head.subarray(location.offset);
  const index = openIndex(indexBytes, location);
  const { offset, length: jsonLength } = index.checkpointJson;
  if (offset + jsonLength > location.offset)
    throw dataLoss('Cannot read the index of the checkpoint: checkpoint.json overlaps it');
  const checkpointJson = head.subarray(offset, offset + jsonLength);
  const facts = readCheckpointFacts(checkpointJson, index.checkpointJson);
  checkLayerCount(facts.layers.checkpoint, index.dataLayers.length);
  return { indexBytes, checkpointJson };
}

/** DATA_LOSS unless checkpoint.json counts the index layer and all data layers. */
export function checkLayerCount(counted: number, dataLayers: number): void {
  if (counted !== dataLayers + 1)
    throw dataLoss(
      `Cannot trust checkpoint.json: it counts ${counted} checkpoint layers, the index has ${dataLayers + 1}`,
    );
}
