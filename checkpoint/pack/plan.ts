/** Who packs what. Pure, and the same on every machine, so that the same dump makes the same layers. */

export interface SourceFile {
  name: string;
  /** Bytes. */
  size: number;
}

/** A run of one file, which one lane packs in one go. */
export interface Piece {
  /** Place of the file in PackPlan.files. */
  file: number;
  offset: number;
  length: number;
}

/** One lane makes one data layer (more if it grows too large), from its pieces in order. */
export interface PackPlan {
  files: SourceFile[];
  lanes: Piece[][];
}

/**
 * Bytes that one lane packs before the next one's turn: long enough that a fetch of 8 to 16 MiB stays inside, short
 * enough that lanes end at about the same time.
 */
export const SEGMENT_BYTES = 32 * 1024 * 1024;

/**
 * Lanes, so data layers, for a checkpoint of `bytes`: many blobs push and pull in parallel, but each is a layer of the
 * image. Powers of two, so that they divide well among cores.
 */
export function laneCount(bytes: number): number {
  if (bytes < 128 * 2 ** 20) return 1;
  if (bytes < 2 ** 30) return 2;
  return bytes < 8 * 2 ** 30 ? 4 : 8;
}

/**
 * Orders files as a restore reads them, and deals out segments in turn. Small images come first: CRIU reads them
 * before it touches memory pages.
 */
export function planPack(
  found: readonly SourceFile[],
  chunkBytes: number,
  lanes = laneCount(found.reduce((sum, file) => sum + file.size, 0)),
): PackPlan {
  if (SEGMENT_BYTES % chunkBytes !== 0) throw new RangeError(`chunks of ${chunkBytes} bytes`);
  const files = [...found].sort(
    (a, b) => Number(isPages(a.name)) - Number(isPages(b.name)) || compareNames(a.name, b.name),
  );
  const plan: PackPlan = { files, lanes: Array.from({ length: lanes }, () => []) };
  let lane = 0;
  let room = SEGMENT_BYTES;
  for (const [file, { size }] of files.entries()) {
    for (let offset = 0; offset < size; ) {
      // Chunk boundaries stay at multiples of the chunk size, whatever lies before in the segment.
      if (room < chunkBytes) {
        lane = (lane + 1) % lanes;
        room = SEGMENT_BYTES;
      }
      const length = Math.min(size - offset, room - (room % chunkBytes));
      plan.lanes[lane]?.push({ file, offset, length });
      offset += length;
      room -= length;
    }
  }
  return plan;
}

function isPages(name: string): boolean {
  return /^pages-\d+\.img$/.test(name);
}

/** Numbers in names count as numbers: pages-2 before pages-10. */
function compareNames(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true }) || (a < b ? -1 : 1);
}
