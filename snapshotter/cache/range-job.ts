/** A planned range with all that is needed to fetch it, so that another thread can. Pure. */
import type { Chunk } from '../../checkpoint/chunk-table.ts';
import type { ChunkIndex } from '../../checkpoint/index-format.ts';
import type { BlobName } from './blob-source.ts';
import { chunkAt } from './chunk-lookup.ts';
import type { PlannedRange } from './plan.ts';
import type { Rank } from './rank.ts';

export interface JobChunk {
  ordinal: number;
  /** Name of the file that it belongs to. */
  file: string;
  chunk: Chunk;
}

export interface RangeJob {
  blob: BlobName;
  rank: Rank;
  /** Bytes of the blob. */
  offset: number;
  length: number;
  /** Ascending by offset in the blob. */
  chunks: readonly JobChunk[];
}

export function jobOf(
  index: ChunkIndex,
  { layer, offset, length, ordinals }: PlannedRange,
  rank: Rank,
): RangeJob {
  const digest = index.dataLayers[layer]?.digest;
  if (digest === undefined) throw new RangeError(`data layer ${layer} of ${index.dataLayers.length}`);
  const chunks = Array.from(ordinals, (ordinal) => {
    const { file, chunk } = chunkAt(index, ordinal);
    return { ordinal, file: file.name, chunk };
  });
  return { blob: { digest, dataLayer: layer }, rank, offset, length, chunks };
}
