/** A checkpoint image in memory for tests, with real digests, real layouts and any content. */
import { createHash, hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { formatIndexAnnotation, type IndexLocation } from '../checkpoint/annotation.ts';
import { type Chunk, chunkTableOf } from '../checkpoint/chunk-table.ts';
import { digestOf } from '../checkpoint/digest.ts';
import type { CheckpointFacts } from '../checkpoint/facts.ts';
import { type CheckpointIndex, decodeIndex, encodeIndex } from '../checkpoint/index-format.ts';
import {
  buildIndexLayer,
  CHECKPOINT_JSON_OFFSET,
  DATA_START,
  dataLayerHead,
  dataLayerTail,
} from '../checkpoint/layer-layout.ts';
import type { BlobName, BlobSource } from './cache/index.ts';

export interface FakeFile {
  name: string;
  size: number;
  /** Stored as they are, chunk after chunk, at these file offsets. */
  chunks: readonly { at: number; bytes: Buffer }[];
}

export interface FakeCheckpoint {
  id: string;
  indexBytes: Uint8Array;
  index: CheckpointIndex;
  checkpointJson: Buffer;
  location: IndexLocation;
  annotation: string;
  /** Blobs by digest, index layer first. */
  blobs: Map<string, Buffer>;
  /** What files must contain in the end. */
  contents: Map<string, Buffer>;
}

export const fakeDigest = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;

export function fakeFacts(checkpointLayers: number, over: Partial<CheckpointFacts> = {}): CheckpointFacts {
  return {
    formatVersion: 1,
    created: '2026-01-02T03:04:05Z',
    image: { reference: 'test.local/base:1', configDigest: fakeDigest('config') },
    layers: {
      checkpoint: checkpointLayers,
      base: [
        { digest: fakeDigest('base-blob'), diffId: fakeDigest('base'), mediaType: 'x', size: 1 },
        { digest: fakeDigest('base2-blob'), diffId: fakeDigest('base2'), mediaType: 'x', size: 1 },
      ],
      diff: { digest: fakeDigest('diff'), diffId: fakeDigest('diff'), mediaType: 'x', size: 1 },
    },
    processes: [],
    memoryBytes: 1,
    annotations: {},
    launch: { args: ['a'], cwd: '/', uid: 0, gid: 0, additionalGids: [], env: [] },
    host: { arch: 'amd64', kernel: '6.1', cpuFlags: [], criu: '4.2', runc: '1.3', cgroup: 'v2' },
    mounts: [],
    ...over,
  };
}

/** `layers`: the files whose chunks each data layer holds. */
export function fakeCheckpoint(
  layers: readonly (readonly FakeFile[])[],
  options: { accessOrder?: readonly number[]; facts?: Partial<CheckpointFacts> } = {},
): FakeCheckpoint {
  const blobs = new Map<string, Buffer>();
  const contents = new Map<string, Buffer>();
  const dataLayers: { digest: string; size: bigint }[] = [];
  const files: { name: string; size: bigint; chunks: ReturnType<typeof chunkTableOf> }[] = [];
  const dataBlobs: Buffer[] = [];
  for (const [ordinal, layer] of layers.entries()) {
    const parts: Buffer[] = [];
    let at = DATA_START;
    for (const { name, size, chunks } of layer) {
      const content = Buffer.alloc(size);
      const records = chunks.map(({ at: fileOffset, bytes }): Chunk => {
        bytes.copy(content, fileOffset);
        parts.push(bytes);
        const record = {
          fileOffset: BigInt(fileOffset),
          layerOffset: BigInt(at),
          storedLength: bytes.length,
          decodedLength: bytes.length,
          crc32: crc32(bytes),
          layer: ordinal,
          codec: 'lz4' as const,
          digest: hash('sha256', bytes, 'buffer'),
        };
        at += bytes.length;
        return record;
      });
      contents.set(name, content);
      files.push({ name, size: BigInt(size), chunks: chunkTableOf(records) });
    }
    const data = at - DATA_START;
    const blob = Buffer.concat([dataLayerHead(ordinal, data), ...parts, Buffer.alloc(dataLayerTail(data))]);
    dataBlobs.push(blob);
    dataLayers.push({ digest: digestOf(blob), size: BigInt(blob.length) });
  }
  const checkpointJson = Buffer.from(JSON.stringify(fakeFacts(layers.length + 1, options.facts)));
  const indexBytes = encodeIndex({
    dataLayers,
    files,
    accessOrder: options.accessOrder ?? [],
    checkpointJson: {
      offset: CHECKPOINT_JSON_OFFSET,
      length: checkpointJson.length,
      digest: digestOf(checkpointJson),
    },
  });
  const indexLayer = buildIndexLayer(checkpointJson, indexBytes);
  const location: IndexLocation = {
    blob: digestOf(indexLayer.bytes),
    offset: indexLayer.indexOffset,
    length: indexLayer.indexLength,
    digest: digestOf(indexBytes),
  };
  blobs.set(location.blob, indexLayer.bytes);
  for (const [i, blob] of dataBlobs.entries()) blobs.set(dataLayers[i]?.digest ?? '', blob);
  return {
    id: location.digest,
    indexBytes,
    index: decodeIndex(indexBytes),
    checkpointJson,
    location,
    annotation: formatIndexAnnotation(location),
    blobs,
    contents,
  };
}

/** Serves a checkpoint's blobs from memory, in pieces that end anywhere. */
export class FakeSource implements BlobSource {
  readonly kind: 'remote' | 'local';
  readonly description = 'a test';
  readonly reads: { digest: string; offset: number; length: number }[] = [];
  readonly #blobs: Map<string, Buffer>;
  /** Longest piece in which bytes come. */
  pieceBytes = 1000;
  /** Changes what is sent, or throws. */
  tamper: (
    bytes: Buffer,
    read: { digest: string; offset: number },
    count: number,
  ) => Promise<Buffer> | Buffer;

  constructor(blobs: Map<string, Buffer>, kind: 'remote' | 'local' = 'remote') {
    this.#blobs = blobs;
    this.kind = kind;
    this.tamper = (bytes) => bytes;
  }

  async *read(
    { digest }: BlobName,
    offset: number,
    length: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    signal.throwIfAborted();
    const blob = this.#blobs.get(digest);
    if (!blob) throw new Error(`no blob ${digest}`);
    this.reads.push({ digest, offset, length });
    const wanted = Buffer.from(blob.subarray(offset, offset + length));
    const bytes = await this.tamper(wanted, { digest, offset }, this.reads.length);
    for (let at = 0; at < bytes.length; at += this.pieceBytes) {
      await new Promise((resolve) => setImmediate(resolve));
      signal.throwIfAborted();
      yield bytes.subarray(at, at + this.pieceBytes);
    }
  }
}
