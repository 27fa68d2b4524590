/** LZ4 blocks as the image stores them. lz4-napi puts the decoded length (u32 LE) before each block; we do not. */
import { compressSync, uncompressSync } from 'lz4-napi';

/**
 * One LZ4 block, or `bytes` itself where that does not save a 32nd: such a chunk is cheaper to read as it is. Either
 * way the result is shorter than `bytes` exactly if it is compressed.
 */
export function compressChunk(bytes: Buffer): Buffer {
  const block = compressSync(bytes).subarray(4);
  return block.length <= bytes.length - bytes.length / 32 ? block : bytes;
}

/** Decodes one block. Throws unless it is one and has exactly `decodedLength` bytes, which the caller bounds. */
export function decodeBlock(block: Uint8Array, decodedLength: number): Buffer {
  const prefixed = Buffer.allocUnsafe(4 + block.length);
  prefixed.writeUInt32LE(decodedLength);
  prefixed.set(block, 4);
  const decoded = uncompressSync(prefixed);
  if (decoded.length !== decodedLength)
    throw new RangeError(`the block has ${decoded.length} bytes instead of ${decodedLength}`);
  return decoded;
}
