/**
 * Which ranges of which layers to read, and in which order. Pure: an index in, ranges out, so that another order (demand
 * first) only has to reorder the result.
 */
import type { CheckpointIndex } from '../../checkpoint/index-format.ts';

export interface PlannedRange {
  /** Which of the index's data layers. */
  layer: number;
  /** Bytes of the layer's blob. */
  offset: number;
  length: number;
  /** Chunks in it, by ordinal, ascending by offset in the layer. */
  ordinals: Uint32Array;
}

export interface PlanOptions {
  /** Longest range. Chunks are never split, so it must not be below the largest stored chunk (1 MiB). */
  maxBytes: number;
  /** Largest run of bytes between two chunks that is read along rather than asked around. */
  maxGap: number;
}

export const DEFAULT_PLAN: PlanOptions = { maxBytes: 8 << 20, maxGap: 64 << 10 };

/**
 * Every chunk for which `wanted` holds is in exactly one range. Ranges come in the order of the first use of any of
 * their chunks: chunks of the recorded access order first, then by ordinal.
 */
export function planRanges(
  index: CheckpointIndex,
  wanted: (ordinal: number) => boolean = () => true,
  options: PlanOptions = DEFAULT_PLAN,
): PlannedRange[] {
  const ranks = accessRanks(index);
  const ranges: (PlannedRange & { rank: number })[] = [];
  for (const chunks of chunksByLayer(index, wanted)) {
    let start = 0;
    let end = 0;
    for (let i = 0; i < chunks.length; i++) {
      const chunk = chunks[i] as PlacedChunk;
      const first = chunks[start] as PlacedChunk;
      const fits =
        chunk.offset + chunk.length - first.offset <= options.maxBytes &&
        chunk.offset - end <= options.maxGap;
      if (i > start && !fits) {
        ranges.push(rangeOf(chunks.slice(start, i), end, ranks));
        start = i;
        end = 0;
      }
      end = Math.max(end, chunk.offset + chunk.length);
    }
    if (chunks.length > start) ranges.push(rangeOf(chunks.slice(start), end, ranks));
  }
  return ranges.sort((a, b) => a.rank - b.rank).map(({ rank: _, ...range }) => range);
}

interface PlacedChunk {
  layer: number;
  offset: number;
  length: number;
  ordinal: number;
}

function chunksByLayer(index: CheckpointIndex, wanted: (ordinal: number) => boolean): PlacedChunk[][] {
  const layers: PlacedChunk[][] = index.dataLayers.map(() => []);
  for (const { chunks, firstOrdinal } of index.files) {
    for (let i = 0; i < chunks.count; i++) {
      const ordinal = firstOrdinal + i;
      if (!wanted(ordinal)) continue;
      const layer = chunks.layer(i);
      // The index was checked against the layers' sizes, so offsets fit a double.
      layers[layer]?.push({
        layer,
        offset: Number(chunks.layerOffset(i)),
        length: chunks.storedLength(i),
        ordinal,
      });
    }
  }
  for (const layer of layers) layer.sort((a, b) => a.offset - b.offset || a.ordinal - b.ordinal);
  return layers;
}

function accessRanks(index: CheckpointIndex): Uint32Array {
  const listed = index.accessOrder.length;
  const ranks = new Uint32Array(index.chunkCount);
  for (let ordinal = 0; ordinal < ranks.length; ordinal++) ranks[ordinal] = listed + ordinal;
  for (let rank = 0; rank < listed; rank++) ranks[index.accessOrder[rank] as number] = rank;
  return ranks;
}

function rangeOf(chunks: PlacedChunk[], end: number, ranks: Uint32Array): PlannedRange & { rank: number } {
  const [first] = chunks as [PlacedChunk];
  let rank = Number.POSITIVE_INFINITY;
  for (const { ordinal } of chunks) rank = Math.min(rank, ranks[ordinal] as number);
  return {
    layer: first.layer,
    offset: first.offset,
    length: end - first.offset,
    ordinals: Uint32Array.from(chunks, (chunk) => chunk.ordinal),
    rank,
  };
}
