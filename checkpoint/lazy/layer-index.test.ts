import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { describe, expect, it, onTestFinished } from 'vitest';
import { chunkTableOf } from '../chunk-table.ts';
import { digestOf } from '../digest.ts';
import { seeded } from '../random.test-helper.ts';
import { buildBaseIndexLayer, formatLayerAnnotation, parseLayerAnnotation } from './index-layer.ts';
import { decodeLayerIndex, encodeLayerIndex, layerMetadata, type NewLayerIndex } from './layer-index.ts';
import { writeFrames } from './write-frames.ts';

async function frames(content: Buffer, frameBytes: number) {
  const dir = mkdtempSync(join(tmpdir(), 'thaw-frames-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'tar'), content);
  const tar = await open(join(dir, 'tar'));
  const blob = await open(join(dir, 'blob'), 'w');
  const written = await writeFrames({
    tar,
    tarBytes: content.length,
    blob,
    frameBytes,
    signal: new AbortController().signal,
  });
  await tar.close();
  await blob.close();
  return { ...written, blob: readFileSync(join(dir, 'blob')) };
}

/** Half of it cannot be compressed. */
const content = Buffer.concat([seeded(5).bytes(70_000), Buffer.alloc(61_072, 'thaw')]);
const image = Buffer.from('an EROFS image');

async function newIndex(change: Partial<NewLayerIndex> = {}): Promise<NewLayerIndex> {
  const written = await frames(content, 32_768);
  return {
    blob: written.digest,
    blobSize: written.size,
    diffId: digestOf(content),
    size: content.length,
    frameBytes: 32_768,
    frames: written.frames,
    accessOrder: [],
    metadata: zstdCompressSync(image),
    metadataSize: image.length,
    ...change,
  };
}

describe('frames', () => {
  it('are one stream to who does not know them, and decode alone to who does', async () => {
    const { blob, digest, size, frames: table } = await frames(content, 32_768);
    expect(digest).toBe(digestOf(blob));
    expect(size).toBe(blob.length);
    expect(zstdDecompressSync(blob).equals(content)).toBe(true);
    expect(table.count).toBe(Math.ceil(content.length / 32_768));
    for (let i = 0; i < table.count; i++) {
      const { layerOffset, storedLength, fileOffset, decodedLength, digest: sum } = table.chunk(i);
      const stored = blob.subarray(Number(layerOffset), Number(layerOffset) + storedLength);
      expect(digestOf(stored)).toBe(`sha256:${Buffer.from(sum).toString('hex')}`);
      const part = content.subarray(Number(fileOffset), Number(fileOffset) + decodedLength);
      expect(zstdDecompressSync(stored).equals(part)).toBe(true);
    }
  });
});

describe('the index of a layer', () => {
  it('is read as it was written, with its metadata', async () => {
    const made = await newIndex({ accessOrder: [2, 0] });
    const read = decodeLayerIndex(encodeLayerIndex(made));
    expect(read).toMatchObject({
      dataLayers: [{ digest: made.blob, size: BigInt(made.blobSize) }],
      accessOrder: [2, 0],
      diffId: made.diffId,
      frameBytes: made.frameBytes,
      chunkCount: made.frames.count,
    });
    expect(read.files[0]?.size).toBe(BigInt(content.length));
    expect((await layerMetadata(read)).equals(image)).toBe(true);
  });

  it('is refused where it promises what cannot be', async () => {
    const good = await newIndex();
    const frame = good.frames.chunk(1);
    const others = (changed: object) =>
      chunkTableOf(
        [0, 1, 2, 3].map((i) => (i === 1 ? { ...frame, ...changed } : good.frames.chunk(i))),
        'zstd',
      );
    const wrong: [Partial<NewLayerIndex>, string][] = [
      [{ blob: 'sha256:x' }, 'digest'],
      [{ size: content.length - 1 }, 'end of the file'],
      [{ size: content.length + 40_000 }, 'do not make up'],
      [{ blobSize: good.blobSize - 1 }, 'outside the data'],
      [{ frameBytes: 0 }, 'do not make up'],
      [{ frames: others({ decodedLength: 32_767 }) }, 'frame 1 is not where'],
      [{ frames: others({ storedLength: 40_000 }) }, 'stored length'],
      [{ accessOrder: [4] }, 'does not exist'],
      [{ metadataSize: 2 ** 40 }, 'metadata are too large'],
    ];
    for (const [change, why] of wrong)
      expect(() => encodeLayerIndex({ ...good, ...change }), why).toThrow(why);
  });

  it('gives no metadata of another size', async () => {
    for (const metadataSize of [image.length - 1, image.length + 1]) {
      const read = decodeLayerIndex(encodeLayerIndex(await newIndex({ metadataSize })));
      await expect(layerMetadata(read)).rejects.toThrow('no zstd frame of their size');
    }
  });
});

it('the index layer names each index by its place and digest', () => {
  const indexes = [Buffer.alloc(513, 1), Buffer.alloc(5, 2)];
  const { bytes, digest, locations } = buildBaseIndexLayer(indexes);
  expect(digest).toBe(digestOf(bytes));
  for (const [i, location] of locations.entries()) {
    expect(parseLayerAnnotation(formatLayerAnnotation(location))).toEqual(location);
    const { offset, length } = location;
    expect(bytes.subarray(offset, offset + length).equals(indexes[i] ?? Buffer.alloc(0))).toBe(true);
    expect(location).toMatchObject({ blob: digest, digest: digestOf(indexes[i] ?? '') });
  }
});
