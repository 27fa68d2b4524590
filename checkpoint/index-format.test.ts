import { describe, expect, test } from 'vitest';
import { thaw } from '../proto/gen/image.js';
import { type Chunk, ChunkTable, chunkTableOf, writeChunkRecord } from './chunk-table.ts';
import { digestOf } from './digest.ts';
import { CheckpointError } from './error.ts';
import { decodeIndex, encodeIndex, type NewIndex, openIndex } from './index-format.ts';
import { CHECKPOINT_JSON_OFFSET, DATA_START, dataLayerSize } from './layer-layout.ts';
import { limits } from './limits.ts';
import { seeded } from './random.test-helper.ts';

function chunk(over: Partial<Chunk> = {}): Chunk {
  return {
    fileOffset: 0n,
    layerOffset: BigInt(DATA_START),
    storedLength: 100,
    decodedLength: 4096,
    crc32: 0xdeadbeef,
    layer: 0,
    codec: 'lz4',
    digest: seeded(1).bytes(32),
    ...over,
  };
}

function index(chunks: Chunk[] = [chunk()], over: Partial<NewIndex> = {}): NewIndex {
  return {
    dataLayers: [{ digest: digestOf('layer'), size: BigInt(dataLayerSize(1000)) }],
    files: [{ name: 'pages-1.img', size: 8192n, chunks: chunkTableOf(chunks) }],
    accessOrder: [],
    checkpointJson: { offset: CHECKPOINT_JSON_OFFSET, length: 2, digest: digestOf('{}') },
    ...over,
  };
}

describe('index', () => {
  test('is read back as it was written', () => {
    const second = chunk({ fileOffset: 4096n, layerOffset: BigInt(DATA_START + 100), crc32: 7 });
    const made = index([chunk(), second], {
      files: [
        { name: 'pages-1.img', size: 8192n, chunks: chunkTableOf([chunk(), second]) },
        { name: 'empty', size: 0n, chunks: chunkTableOf([]) },
        { name: 'inventory.img', size: 5000n, chunks: chunkTableOf([chunk()]) },
      ],
      accessOrder: [2, 0],
      layerReads: [{ layer: digestOf('layer index'), frames: [70_000, 3] }],
    });
    const read = decodeIndex(encodeIndex(made));
    expect(read.files.map((f) => [f.name, f.size, f.firstOrdinal, f.chunks.count])).toEqual([
      ['pages-1.img', 8192n, 0, 2],
      ['empty', 0n, 2, 0],
      ['inventory.img', 5000n, 2, 1],
    ]);
    expect(read.files[0]?.chunks.chunk(1)).toMatchObject({ ...second, digest: expect.anything() });
    expect(Buffer.compare(read.files[0]?.chunks.digest(1) ?? Buffer.of(), second.digest)).toBe(0);
    expect(read.files[0]?.chunks.storedBytes()).toBe(200);
    expect(read.accessOrder).toEqual([2, 0]);
    expect(read.layerReads).toEqual(made.layerReads);
    expect(decodeIndex(encodeIndex(index())).layerReads).toEqual([]);
    expect(() => encodeIndex(index([], { layerReads: [{ layer: 'x', frames: [] }] }))).toThrow(
      'no valid digest',
    );
    expect(read.chunkCount).toBe(3);
    expect(read.dataLayers).toEqual(made.dataLayers);
    expect(read.checkpointJson).toEqual(made.checkpointJson);
  });

  test('keeps sizes and offsets above 4 GiB exactly', () => {
    const far = chunk({ fileOffset: 5_000_000_001n * 1024n, layerOffset: 6_000_000_001n });
    const read = decodeIndex(
      encodeIndex(
        index([], {
          dataLayers: [{ digest: digestOf('layer'), size: BigInt(dataLayerSize(7_000_000_000)) }],
          files: [{ name: 'f', size: 5_120_000_005_121n, chunks: chunkTableOf([far]) }],
        }),
      ),
    );
    expect(read.files[0]?.size).toBe(5_120_000_005_121n);
    expect(read.files[0]?.chunks.fileOffset(0)).toBe(5_120_000_001_024n);
    expect(read.files[0]?.chunks.layerOffset(0)).toBe(6_000_000_001n);
    expect(read.dataLayers[0]?.size).toBe(BigInt(dataLayerSize(7_000_000_000)));
  });

  test.each<[string, NewIndex]>([
    ['no data layer', index([], { dataLayers: [] })],
    ['a data layer with a bad digest', index([], { dataLayers: [{ digest: 'sha256:00', size: 4096n }] })],
    [
      'a data layer of a size no tar has',
      index([], { dataLayers: [{ digest: digestOf('x'), size: 4097n }] }),
    ],
    ['a data layer above the limit', index([], { dataLayers: [{ digest: digestOf('x'), size: 2n ** 34n }] })],
    [
      'a data layer of a size beyond 2^53',
      index([], { dataLayers: [{ digest: digestOf('x'), size: 2n ** 62n }] }),
    ],
    ['decoded length 0', index([chunk({ decodedLength: 0, storedLength: 0 })])],
    ['stored length 0', index([chunk({ storedLength: 0 })])],
    ['a decoded length above 1 MiB', index([chunk({ decodedLength: limits.decodedChunkBytes + 1 })])],
    ['stored longer than decoded', index([chunk({ storedLength: 4097 })])],
    ['a chunk beyond the end of its file', index([chunk({ fileOffset: 8192n })])],
    ['a chunk at an offset near 2^64', index([chunk({ fileOffset: 2n ** 64n - 4096n })])],
    ['overlapping chunks', index([chunk(), chunk({ fileOffset: 4095n })])],
    ['chunks out of order', index([chunk({ fileOffset: 4096n }), chunk()])],
    ['an unknown data layer', index([chunk({ layer: 1 })])],
    ['a chunk in the tar header', index([chunk({ layerOffset: BigInt(DATA_START - 1) })])],
    ['a chunk beyond its layer', index([chunk({ layerOffset: BigInt(dataLayerSize(1000)) })])],
    ['a chunk that reaches into the end of the tar', index([chunk({ layerOffset: 2048n })])],
    ['an access order with an unknown chunk', index([chunk()], { accessOrder: [1] })],
    ['an access order longer than the chunks', index([chunk()], { accessOrder: [0, 0] })],
    [
      'checkpoint.json elsewhere',
      index([], { checkpointJson: { offset: 0, length: 2, digest: digestOf('{}') } }),
    ],
    [
      'checkpoint.json too large',
      index([], { checkpointJson: { offset: 1024, length: 2 ** 30, digest: digestOf('{}') } }),
    ],
    [
      'a file above the limit',
      index([], { files: [{ name: 'f', size: 2n ** 60n, chunks: chunkTableOf([]) }] }),
    ],
    [
      'a name twice',
      index([], {
        files: [
          { name: 'f', size: 1n, chunks: chunkTableOf([]) },
          { name: 'f', size: 1n, chunks: chunkTableOf([]) },
        ],
      }),
    ],
    ...['', '.', '..', 'a/b', '/', 'a\0b', 'a b', 'a\nb', 'ä', 'x'.repeat(256)].map(
      (name): [string, NewIndex] => [
        `the name ${JSON.stringify(name.slice(0, 9))}`,
        index([], { files: [{ name, size: 1n, chunks: chunkTableOf([]) }] }),
      ],
    ),
  ])('refuses %s', (_, bad) => {
    expect(() => encodeIndex(bad)).toThrow(CheckpointError);
  });

  test('refuses an unknown version by name', () => {
    for (const version of [0, 3]) {
      const bytes = thaw.image.v1.Index.encode({ version }).finish();
      expect(() => decodeIndex(bytes)).toThrow(
        `format version is ${version}, known here are 1 to 2; use a newer`,
      );
    }
  });

  test('is of version 2 exactly where a record names a codec, and none does in version 1', () => {
    const [old, mixed] = [index(), index([chunk(), chunk({ fileOffset: 4096n, codec: 'planes', layer: 0 })])];
    const versionOf = (made: NewIndex) => thaw.image.v1.Index.decode(encodeIndex(made)).version;
    expect([versionOf(old), versionOf(mixed)]).toEqual([1, 2]);
    const read = decodeIndex(encodeIndex(mixed)).files[0]?.chunks;
    expect([read?.codec(0), read?.codec(1)]).toEqual(['lz4', 'planes']);
    expect(read?.layer(1)).toBe(0);
    const message = thaw.image.v1.Index.decode(encodeIndex(mixed));
    message.version = 1;
    const renamed = thaw.image.v1.Index.encode(message).finish();
    expect(() => decodeIndex(renamed)).toThrow('stored in a way (2) that does not exist in this version');
  });

  test('refuses a codec that does not exist, and planes of no whole words', () => {
    const records = chunkTableOf([chunk({ codec: 'zstd' })]).bytes;
    for (const [at, value] of [
      [30, 3],
      [31, 1],
    ] as const) {
      const bytes = Uint8Array.from(records);
      bytes[at] = value;
      const files = [{ name: 'pages-1.img', size: 8192n, chunks: new ChunkTable(bytes) }];
      expect(() => encodeIndex(index([], { files }))).toThrow('that does not exist in this version');
    }
    const odd = index([chunk({ codec: 'planes', decodedLength: 4094 })]);
    expect(() => encodeIndex(odd)).toThrow('has planes, but a decoded length of 4094');
  });

  test('refuses a chunk table that is cut off', () => {
    expect(() => new ChunkTable(new Uint8Array(63))).toThrow(CheckpointError);
  });

  test('refuses access to a chunk that is not there', () => {
    expect(() => chunkTableOf([chunk()]).fileOffset(1)).toThrow(RangeError);
    expect(() => chunkTableOf([chunk()]).fileOffset(-1)).toThrow(RangeError);
  });

  test('every truncation and random damage is refused or gives a table that passes the checks', () => {
    const bytes = encodeIndex(index([chunk(), chunk({ fileOffset: 4096n })]));
    for (let length = 0; length < bytes.length; length++) tolerate(bytes.subarray(0, length));
    const random = seeded(42);
    for (let round = 0; round < 3000; round++) {
      const damaged = Buffer.from(bytes);
      for (let n = 0; n <= random.int(3); n++) damaged[random.int(damaged.length)] = random.int(256);
      tolerate(damaged);
    }
  });

  test('any change is refused once the digest is known', () => {
    const bytes = encodeIndex(index());
    const location = { blob: digestOf('b'), offset: 0, length: bytes.length, digest: digestOf(bytes) };
    expect(openIndex(bytes, location).chunkCount).toBe(1);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      expect(() => openIndex(damaged, location)).toThrow('Cannot trust');
    }
    expect(() => openIndex(bytes.subarray(1), location)).toThrow('Cannot trust');
  });

  test('200 000 chunks are checked in well under a second', () => {
    const count = 200_000;
    const packed = new Uint8Array(count * 64);
    for (let i = 0; i < count; i++)
      writeChunkRecord(packed, i, chunk({ fileOffset: BigInt(i) * 4096n, layerOffset: 1024n }));
    const bytes = encodeIndex(
      index([], { files: [{ name: 'f', size: BigInt(count) * 4096n, chunks: new ChunkTable(packed) }] }),
    );
    const started = process.cpuUsage();
    expect(decodeIndex(bytes).chunkCount).toBe(count);
    expect(process.cpuUsage(started).user).toBeLessThan(500_000);
  });
});

/** Damaged bytes may still be a valid index by chance; what must not happen is another kind of error. */
function tolerate(bytes: Uint8Array): void {
  try {
    const read = decodeIndex(bytes);
    for (const file of read.files)
      for (let i = 0; i < file.chunks.count; i++)
        expect(file.chunks.fileOffset(i) + BigInt(file.chunks.decodedLength(i))).toBeLessThanOrEqual(
          file.size,
        );
  } catch (error) {
    expect(error).toBeInstanceOf(CheckpointError);
  }
}
