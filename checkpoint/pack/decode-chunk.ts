import { hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Code } from '../../proto/status.ts';
import type { Chunk } from '../chunk-table.ts';
import { CheckpointError } from '../error.ts';
import { decodeBlock } from './lz4.ts';

/**
 * The decoded bytes of one chunk, in the order of checks that docs/image-format.md asks for: length and SHA-256 of the
 * stored bytes before a decoder sees them, then LZ4, then decoded length and CRC-32. Throws dataLoss.
 * The record must come from a checked index, which bounds decodedLength.
 */
export function decodeChunk(
  stored: Uint8Array,
  record: Pick<Chunk, 'storedLength' | 'decodedLength' | 'crc32' | 'digest'>,
): Uint8Array {
  if (stored.byteLength !== record.storedLength) throw damaged('it is cut off');
  if (hash('sha256', stored, 'buffer').compare(record.digest) !== 0)
    throw damaged('its bytes do not have the digest they should have');
  let decoded = stored;
  if (record.storedLength < record.decodedLength) {
    try {
      decoded = decodeBlock(stored, record.decodedLength);
    } catch (cause) {
      throw damaged('it is no valid LZ4 block', cause);
    }
  }
  if (crc32(decoded) !== record.crc32) throw damaged('its decoded bytes do not have their checksum');
  return decoded;
}

function damaged(why: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    Code.dataLoss,
    `Cannot use a chunk of the checkpoint: ${why}`,
    cause === undefined ? {} : { cause },
  );
}
