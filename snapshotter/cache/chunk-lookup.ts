/** From an ordinal to its chunk. */
import type { Chunk } from '../../checkpoint/chunk-table.ts';
import type { ChunkIndex, IndexFile } from '../../checkpoint/index-format.ts';

export interface FoundChunk {
  file: IndexFile;
  chunk: Chunk;
}

/** RangeError for an ordinal that the index does not have. */
export function chunkAt(index: ChunkIndex, ordinal: number): FoundChunk {
  let low = 0;
  let high = index.files.length - 1;
  // The last file that begins at or before the ordinal; files without chunks share their successor's first ordinal.
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((index.files[middle] as IndexFile).firstOrdinal <= ordinal) low = middle;
    else high = middle - 1;
  }
  const file = index.files[low];
  if (!file || ordinal >= file.firstOrdinal + file.chunks.count)
    throw new RangeError(`chunk ${ordinal} of an index of ${index.chunkCount}`);
  return { file, chunk: file.chunks.chunk(ordinal - file.firstOrdinal) };
}
