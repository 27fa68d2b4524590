/** A lazy layer in memory for tests: any frames, stored as they are. */
import { hash } from 'node:crypto';
import { crc32, zstdCompressSync } from 'node:zlib';
import { chunkTableOf } from '../checkpoint/chunk-table.ts';
import { digestOf } from '../checkpoint/digest.ts';
import { encodeLayerIndex } from '../checkpoint/lazy/layer-index.ts';

export interface FakeLayer {
  id: string;
  indexBytes: Uint8Array;
  tar: Buffer;
}

/** Of frames of one length. Its metadata are no file system. */
export function fakeLayer(frames: readonly Buffer[]): FakeLayer {
  const tar = Buffer.concat(frames);
  const frameBytes = frames[0]?.length ?? 0;
  const records = frames.map((bytes, i) => ({
    fileOffset: BigInt(i * frameBytes),
    layerOffset: BigInt(i * frameBytes),
    storedLength: frameBytes,
    decodedLength: frameBytes,
    crc32: crc32(bytes),
    layer: 0,
    codec: 'zstd' as const,
    digest: hash('sha256', bytes, 'buffer'),
  }));
  const metadata = Buffer.alloc(512);
  const indexBytes = encodeLayerIndex({
    blob: digestOf(tar),
    blobSize: tar.length,
    diffId: digestOf(tar),
    size: tar.length,
    frameBytes,
    frames: chunkTableOf(records, 'zstd'),
    accessOrder: [],
    metadata: zstdCompressSync(metadata),
    metadataSize: metadata.length,
  });
  return { id: digestOf(indexBytes), indexBytes, tar };
}
