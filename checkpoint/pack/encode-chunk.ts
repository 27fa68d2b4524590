import { constants, zstdCompressSync } from 'node:zlib';
import type { ChunkCodec } from '../chunk-table.ts';
import { compressChunk } from './lz4.ts';
import { encodePlanes, planeGains } from './planes.ts';

/**
 * zstd's decoder takes twice the processor time of LZ4's and the rest together: 0.7 s more for a GB. On two cores that is
 * worth it where it saves a tenth of the decoded bytes, from links of 2 Gbit/s downwards.
 */
const FRAME_SAVES = 10;
/** As LZ4 has to: below that a chunk is cheaper to read as it is. */
const PLANES_SAVE = 32;
/** Floats of four and two bytes keep 0.83 and 0.67 of their bytes; smaller ones may be tables, of which zstd makes less. */
const FLOATS_KEEP = 0.6;
const LEVEL = 3;

/** The bytes to store for a chunk. Never longer than it; of the same length only as they are, with the codec `lz4`. */
export function encodeChunk(bytes: Buffer): { stored: Buffer; codec: ChunkCodec } {
  const gains = planeGains(bytes);
  // Before anything else is tried, which for floats is in vain and takes as long again.
  const floats = gains?.likeFloats ? encodePlanes(bytes, gains) : undefined;
  if (floats && floats.length > FLOATS_KEEP * bytes.length && savesEnough(floats, bytes))
    return { stored: floats, codec: 'planes' };
  const block = compressChunk(bytes);
  if (block === bytes) {
    const planes = floats ?? (gains && encodePlanes(bytes, gains));
    return planes && savesEnough(planes, bytes)
      ? { stored: planes, codec: 'planes' }
      : { stored: bytes, codec: 'lz4' };
  }
  const saved = bytes.length / FRAME_SAVES;
  if (block.length > saved) {
    const frame = zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: LEVEL } });
    if (frame.length <= block.length - saved) return { stored: frame, codec: 'zstd' };
  }
  return { stored: block, codec: 'lz4' };
}

function savesEnough(planes: Buffer, { length }: Buffer): boolean {
  return planes.length <= length - length / PLANES_SAVE;
}
