import { hash } from 'node:crypto';
import { crc32, zstdDecompressSync } from 'node:zlib';
import { Code } from '../../proto/status.ts';
import type { Chunk, ChunkCodec } from '../chunk-table.ts';
import { CheckpointError } from '../error.ts';
import { decodeBlock } from './lz4.ts';
import { decodePlanes } from './planes.ts';

/**
 * The decoded bytes of one chunk, in the order of checks that docs/image-format.md asks for: length and SHA-256 of the
 * stored bytes before a decoder sees them, then its codec, then decoded length and CRC-32. Throws dataLoss.
 * The record must come from a checked index, which bounds decodedLength.
 */
export function decodeChunk(
  stored: Uint8Array,
  record: Pick<Chunk, 'storedLength' | 'decodedLength' | 'crc32' | 'codec' | 'digest'>,
): Uint8Array {
  if (stored.byteLength !== record.storedLength) throw damaged('it is cut off');
  if (hash('sha256', stored, 'buffer').compare(record.digest) !== 0)
    throw damaged('its bytes do not have the digest they should have');
  const decoded = decoders[record.codec](stored, record.decodedLength);
  if (crc32(decoded) !== record.crc32) throw damaged('its decoded bytes do not have their checksum');
  return decoded;
}

const decoders: Record<ChunkCodec, (stored: Uint8Array, length: number) => Uint8Array> = {
  lz4: (stored, length) =>
    stored.byteLength < length ? decoded('LZ4 block', () => decodeBlock(stored, length)) : stored,
  zstd: (stored, length) =>
    decoded('zstd frame', () => {
      const bytes = zstdDecompressSync(stored, { maxOutputLength: length });
      if (bytes.length !== length) throw new RangeError(`it has ${bytes.length} bytes instead of ${length}`);
      return bytes;
    }),
  planes: (stored, length) =>
    decoded('set of planes', () =>
      decodePlanes(Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength), length),
    ),
};

function decoded(what: string, decode: () => Uint8Array): Uint8Array {
  try {
    return decode();
  } catch (cause) {
    throw damaged(`it is no valid ${what}`, cause);
  }
}

function damaged(why: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    Code.dataLoss,
    `Cannot use a chunk of the checkpoint: ${why}`,
    cause === undefined ? {} : { cause },
  );
}
