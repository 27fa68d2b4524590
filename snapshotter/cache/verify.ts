/** Chunks that another boot of the machine wrote, held against the checksums of their decoded bytes. */
import { constants, type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { ChunkIndex } from '../../checkpoint/index-format.ts';

/** Ordinals, of those that `claimed` names, whose bytes are right. */
export async function verifyChunks(
  directory: string,
  index: ChunkIndex,
  claimed: (ordinal: number) => boolean,
  signal: AbortSignal,
): Promise<number[]> {
  const right: number[] = [];
  let buffer = Buffer.alloc(0);
  for (const { name, chunks, firstOrdinal } of index.files) {
    const handle = await open(join(directory, name), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      for (let i = 0; i < chunks.count; i++) {
        if (!claimed(firstOrdinal + i)) continue;
        signal.throwIfAborted();
        const length = chunks.decodedLength(i);
        if (buffer.length < length) buffer = Buffer.allocUnsafeSlow(length);
        const bytes = buffer.subarray(0, length);
        if (await readWhole(handle, bytes, Number(chunks.fileOffset(i))))
          if (crc32(bytes) === chunks.crc32(i)) right.push(firstOrdinal + i);
      }
    } finally {
      await handle.close();
    }
  }
  return right;
}

/** What a disk cannot give back is not here. */
async function readWhole(handle: FileHandle, bytes: Buffer, position: number): Promise<boolean> {
  try {
    return (await handle.read(bytes, 0, bytes.length, position)).bytesRead === bytes.length;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EIO') return false;
    throw error;
  }
}
