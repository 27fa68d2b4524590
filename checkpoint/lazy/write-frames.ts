/** A tar as the blob of a lazy layer: zstd frames one after the other, which any zstd reads as one stream. */
import { createHash, type Hash, hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { constants, crc32, zstdCompress } from 'node:zlib';
import { type Chunk, type ChunkTable, chunkTableOf } from '../chunk-table.ts';

const compress = promisify(zstdCompress);

/** A page that is missing costs one of them; smaller ones compress worse (docs/architecture.md, "Choices"). */
export const FRAME_BYTES = 256 * 1024;
const LEVEL = 9;
/** libuv has four threads; more wait in memory. */
const AT_A_TIME = 8;

export interface WrittenFrames {
  frames: ChunkTable;
  /** Of the blob. */
  digest: string;
  size: number;
}

export interface FramesOptions {
  tar: FileHandle;
  tarBytes: number;
  blob: FileHandle;
  frameBytes?: number;
  level?: number;
  signal: AbortSignal;
  /** Bytes of the tar that were read. */
  onProgress?: (bytes: number) => void;
}

/** Writes the blob from its start. The same tar always gives the same bytes. */
export async function writeFrames(options: FramesOptions): Promise<WrittenFrames> {
  const { tar, tarBytes, blob, frameBytes = FRAME_BYTES, signal, onProgress } = options;
  const chunks: Chunk[] = [];
  const whole: Hash = createHash('sha256');
  let size = 0;
  const count = Math.ceil(tarBytes / frameBytes);
  const pending: Promise<Frame>[] = [];
  const start = (i: number) => {
    const made = makeFrame(
      tar,
      i * frameBytes,
      Math.min(frameBytes, tarBytes - i * frameBytes),
      options.level,
    );
    // Awaited in order; until then a failure is nobody's.
    made.catch(() => {});
    pending.push(made);
  };
  let next = 0;
  while (next < Math.min(AT_A_TIME, count)) start(next++);
  for (let i = 0; i < count; i++) {
    signal.throwIfAborted();
    const { stored, ...frame } = await (pending.shift() as Promise<Frame>);
    if (next < count) start(next++);
    await blob.write(stored, 0, stored.length, size);
    whole.update(stored);
    chunks.push({
      ...frame,
      fileOffset: BigInt(i * frameBytes),
      layerOffset: BigInt(size),
      storedLength: stored.length,
      layer: 0,
      codec: 'zstd',
      digest: hash('sha256', stored, 'buffer'),
    });
    size += stored.length;
    onProgress?.(frame.decodedLength);
  }
  return { frames: chunkTableOf(chunks, 'zstd'), digest: `sha256:${whole.digest('hex')}`, size };
}

interface Frame {
  stored: Buffer;
  decodedLength: number;
  crc32: number;
}

async function makeFrame(tar: FileHandle, offset: number, length: number, level = LEVEL): Promise<Frame> {
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await tar.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) throw new Error('the tar became shorter while it was read');
    done += bytesRead;
  }
  const stored = await compress(bytes, { params: { [constants.ZSTD_c_compressionLevel]: level } });
  return { stored, decodedLength: length, crc32: crc32(bytes) };
}
