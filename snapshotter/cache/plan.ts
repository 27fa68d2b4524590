/** Which ranges of which layers to read, and in which order. Pure: an index in, ranges out. */
import type { ChunkIndex } from '../../checkpoint/index-format.ts';
import { chunkAt } from './chunk-lookup.ts';

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
/** For chunks that somebody waits for: nothing is read that is not wanted. */
export const DEMAND_PLAN: PlanOptions = { maxBytes: 2 << 20, maxGap: 0 };
/** For a lead, which has its connections in common with those. */
export const LEAD_PLAN: PlanOptions = { ...DEFAULT_PLAN, maxBytes: DEMAND_PLAN.maxBytes };

/**
 * Every chunk for which `wanted` holds is in exactly one range. Ranges come in the order of the first use of any of
 * their chunks: chunks of the recorded access order first, then by ordinal.
 */
export function planRanges(
  index: ChunkIndex,
  wanted: (ordinal: number) => boolean = () => true,
  options: PlanOptions = DEFAULT_PLAN,
): PlannedRange[] {
  const ranks = accessRanks(index);
  return inOrder(chunksByLayer(index, wanted), (ordinal) => ranks[ordinal] as number, options);
}

/** As planRanges for a few chunks, in the order given; takes no longer for a larger index. */
export function planDemand(
  index: ChunkIndex,
  ordinals: readonly number[],
  options: PlanOptions = DEMAND_PLAN,
): PlannedRange[] {
  const ranks = new Map<number, number>();
  for (const ordinal of ordinals) if (!ranks.has(ordinal)) ranks.set(ordinal, ranks.size);
  const layers = new Map<number, PlacedChunk[]>();
  for (const chunk of placed(index, ranks.keys())) {
    const sameLayer = layers.get(chunk.layer);
    if (sameLayer) sameLayer.push(chunk);
    else layers.set(chunk.layer, [chunk]);
  }
  return inOrder([...layers.values()].map(byOffset), (ordinal) => ranks.get(ordinal) ?? 0, options);
}

/** What is left of a range without the chunks to skip, ascending by offset. */
export function restOfRange(
  index: ChunkIndex,
  range: PlannedRange,
  skip: (ordinal: number) => boolean,
  { maxGap }: Pick<PlanOptions, 'maxGap'> = DEFAULT_PLAN,
): PlannedRange[] {
  if (!range.ordinals.some(skip)) return [range];
  const left = placed(
    index,
    range.ordinals.filter((ordinal) => !skip(ordinal)),
  );
  return grouped(left, { maxBytes: range.length, maxGap }).map(rangeOf);
}

interface PlacedChunk {
  layer: number;
  offset: number;
  length: number;
  ordinal: number;
}

function chunksByLayer(index: ChunkIndex, wanted: (ordinal: number) => boolean): PlacedChunk[][] {
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
  return layers.map(byOffset);
}

function placed(index: ChunkIndex, ordinals: Iterable<number>): PlacedChunk[] {
  return Array.from(ordinals, (ordinal) => {
    const { layer, layerOffset, storedLength } = chunkAt(index, ordinal).chunk;
    return { layer, offset: Number(layerOffset), length: storedLength, ordinal };
  });
}

function byOffset(chunks: PlacedChunk[]): PlacedChunk[] {
  return chunks.sort((a, b) => a.offset - b.offset || a.ordinal - b.ordinal);
}

/** Runs of chunks of one layer that are read at once. */
function grouped(chunks: readonly PlacedChunk[], { maxBytes, maxGap }: PlanOptions): PlacedChunk[][] {
  const groups: PlacedChunk[][] = [];
  let group: PlacedChunk[] = [];
  let start = 0;
  let end = 0;
  for (const chunk of chunks) {
    const chunkEnd = chunk.offset + chunk.length;
    if (group.length > 0 && chunkEnd - start <= maxBytes && chunk.offset - end <= maxGap) {
      group.push(chunk);
      end = Math.max(end, chunkEnd);
      continue;
    }
    group = [chunk];
    groups.push(group);
    start = chunk.offset;
    end = chunkEnd;
  }
  return groups;
}

function inOrder(
  layers: readonly PlacedChunk[][],
  rankOf: (ordinal: number) => number,
  options: PlanOptions,
): PlannedRange[] {
  const ranges: { range: PlannedRange; rank: number }[] = [];
  for (const chunks of layers)
    for (const group of grouped(chunks, options)) {
      let rank = Number.POSITIVE_INFINITY;
      for (const { ordinal } of group) rank = Math.min(rank, rankOf(ordinal));
      ranges.push({ range: rangeOf(group), rank });
    }
  return ranges.sort((a, b) => a.rank - b.rank).map(({ range }) => range);
}

function accessRanks(index: ChunkIndex): Uint32Array {
  const listed = index.accessOrder.length;
  const ranks = new Uint32Array(index.chunkCount);
  for (let ordinal = 0; ordinal < ranks.length; ordinal++) ranks[ordinal] = listed + ordinal;
  for (let rank = 0; rank < listed; rank++) ranks[index.accessOrder[rank] as number] = rank;
  return ranks;
}

function rangeOf(chunks: readonly PlacedChunk[]): PlannedRange {
  const [first] = chunks as [PlacedChunk];
  let end = 0;
  for (const { offset, length } of chunks) end = Math.max(end, offset + length);
  return {
    layer: first.layer,
    offset: first.offset,
    length: end - first.offset,
    ordinals: Uint32Array.from(chunks, (chunk) => chunk.ordinal),
  };
}
