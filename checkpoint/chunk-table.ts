import { Code } from '../proto/status.ts';
import { CheckpointError } from './error.ts';
import { limits } from './limits.ts';

/** Bytes of one chunk record. */
export const CHUNK_RECORD_BYTES = 64;

/**
 * How a chunk is stored: `lz4` one block, or as it is where stored and decoded length are equal; `zstd` one frame;
 * `planes` the bytes of each place of four-byte words together (pack/planes.ts).
 */
export type ChunkCodec = 'lz4' | 'zstd' | 'planes';

/** In a record, 0 is what the table's index says of all chunks. The addon takes the same numbers, with 0 for LZ4. */
export const codecNumbers = { lz4: 0, zstd: 1, planes: 2 } as const satisfies Record<ChunkCodec, number>;
const named: readonly (ChunkCodec | undefined)[] = [undefined, 'zstd', 'planes'];

/** One record, unpacked. */
export interface Chunk {
  fileOffset: bigint;
  /** Offset in the data layer's blob. */
  layerOffset: bigint;
  storedLength: number;
  decodedLength: number;
  /** CRC-32 (IEEE) of the decoded bytes. */
  crc32: number;
  /** Which of the index's data layers. */
  layer: number;
  codec: ChunkCodec;
  /** SHA-256 of the stored bytes, 32 bytes. */
  digest: Uint8Array;
}

/** What a table is checked against. */
export interface ChunkBounds {
  fileSize: number;
  /** For each data layer: the first byte behind its chunk data. */
  layerEnds: readonly number[];
  /** First byte of chunk data in a data layer. */
  layerStart: number;
  /** Longest stored form of so many bytes; without it they are never stored longer than they are. */
  longestStored?: (decoded: number) => number;
  /** Whether records may name a codec of their own. */
  codecs: boolean;
}

/**
 * The chunks of one file, kept as the packed records of the index: proto/thaw/image/v1/index.proto, File.chunks.
 * Accessors take the chunk's position in the file's table, 0 to count - 1. Offsets fit 2^53 once checked.
 */
export class ChunkTable {
  readonly count: number;
  readonly bytes: Uint8Array;
  /** Of records that name none. */
  readonly codecOfIndex: ChunkCodec;
  readonly #view: DataView;

  /** Throws dataLoss unless `bytes` is a whole number of records. */
  constructor(bytes: Uint8Array, codecOfIndex: ChunkCodec = 'lz4') {
    if (bytes.byteLength % CHUNK_RECORD_BYTES !== 0)
      throw new CheckpointError(Code.dataLoss, 'Cannot read the index: a chunk table is cut off');
    this.bytes = bytes;
    this.codecOfIndex = codecOfIndex;
    this.count = bytes.byteLength / CHUNK_RECORD_BYTES;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fileOffset(i: number): bigint {
    return this.#view.getBigUint64(this.#at(i), true);
  }

  layerOffset(i: number): bigint {
    return this.#view.getBigUint64(this.#at(i) + 8, true);
  }

  storedLength(i: number): number {
    return this.#view.getUint32(this.#at(i) + 16, true);
  }

  decodedLength(i: number): number {
    return this.#view.getUint32(this.#at(i) + 20, true);
  }

  crc32(i: number): number {
    return this.#view.getUint32(this.#at(i) + 24, true);
  }

  layer(i: number): number {
    return this.#view.getUint16(this.#at(i) + 28, true);
  }

  codec(i: number): ChunkCodec {
    return named[this.#view.getUint16(this.#at(i) + 30, true)] ?? this.codecOfIndex;
  }

  /** Whether a record names a codec of its own. */
  get namesCodecs(): boolean {
    for (let at = 30; at < this.bytes.byteLength; at += CHUNK_RECORD_BYTES)
      if (this.#view.getUint16(at, true) !== 0) return true;
    return false;
  }

  /** A view of 32 bytes, not a copy. */
  digest(i: number): Uint8Array {
    const at = this.#at(i);
    return this.bytes.subarray(at + 32, at + 64);
  }

  chunk(i: number): Chunk {
    return {
      fileOffset: this.fileOffset(i),
      layerOffset: this.layerOffset(i),
      storedLength: this.storedLength(i),
      decodedLength: this.decodedLength(i),
      crc32: this.crc32(i),
      layer: this.layer(i),
      codec: this.codec(i),
      digest: this.digest(i),
    };
  }

  /** Sum of the stored lengths. */
  storedBytes(): number {
    let sum = 0;
    for (let i = 0; i < this.count; i++) sum += this.storedLength(i);
    return sum;
  }

  /** Sum of the decoded lengths: what is not a gap of zeros. */
  decodedBytes(): number {
    let sum = 0;
    for (let i = 0; i < this.count; i++) sum += this.decodedLength(i);
    return sum;
  }

  /**
   * Says what is wrong with the first bad record, or undefined. Numbers rather than bigint inside: an index has 100k
   * records and more.
   */
  check(bounds: ChunkBounds): string | undefined {
    let end = 0;
    for (let i = 0; i < this.count; i++) {
      const at = i * CHUNK_RECORD_BYTES;
      const fileOffset = this.#u64(at);
      const layerOffset = this.#u64(at + 8);
      const stored = this.#view.getUint32(at + 16, true);
      const decoded = this.#view.getUint32(at + 20, true);
      const layer = this.#view.getUint16(at + 28, true);
      const codec = this.#view.getUint16(at + 30, true);
      if (decoded === 0 || decoded > limits.decodedChunkBytes)
        return `chunk ${i} has a decoded length of ${decoded}`;
      const longest = bounds.longestStored?.(decoded) ?? decoded;
      if (stored === 0 || stored > longest) return `chunk ${i} has a stored length of ${stored}`;
      if (codec !== 0 && (!bounds.codecs || named[codec] === undefined))
        return `chunk ${i} is stored in a way (${codec}) that does not exist in this version`;
      if (named[codec] === 'planes' && decoded % 4 !== 0)
        return `chunk ${i} has planes, but a decoded length of ${decoded}`;
      if (fileOffset < end) return `chunk ${i} overlaps the one before it or is out of order`;
      end = fileOffset + decoded;
      if (end > bounds.fileSize) return `chunk ${i} reaches beyond the end of the file`;
      const layerEnd = bounds.layerEnds[layer];
      if (layerEnd === undefined) return `chunk ${i} lies in data layer ${layer}, which does not exist`;
      if (layerOffset < bounds.layerStart || layerOffset + stored > layerEnd)
        return `chunk ${i} lies outside the data of its layer`;
    }
    return undefined;
  }

  #at(i: number): number {
    if (!Number.isInteger(i) || i < 0 || i >= this.count)
      throw new RangeError(`chunk ${i} of a table of ${this.count}`);
    return i * CHUNK_RECORD_BYTES;
  }

  /** Infinity from 2^53 on, so that every comparison with a bound fails. */
  #u64(at: number): number {
    const high = this.#view.getUint32(at + 4, true);
    if (high >= 2 ** 21) return Number.POSITIVE_INFINITY;
    return high * 2 ** 32 + this.#view.getUint32(at, true);
  }
}

/** Writes one record into `target` at record position `i`; see ChunkTable for `codecOfIndex`. */
export function writeChunkRecord(
  target: Uint8Array,
  i: number,
  chunk: Chunk,
  codecOfIndex: ChunkCodec = 'lz4',
): void {
  const at = i * CHUNK_RECORD_BYTES;
  const view = new DataView(target.buffer, target.byteOffset + at, CHUNK_RECORD_BYTES);
  view.setBigUint64(0, chunk.fileOffset, true);
  view.setBigUint64(8, chunk.layerOffset, true);
  view.setUint32(16, chunk.storedLength, true);
  view.setUint32(20, chunk.decodedLength, true);
  view.setUint32(24, chunk.crc32, true);
  view.setUint16(28, chunk.layer, true);
  view.setUint16(30, chunk.codec === codecOfIndex ? 0 : codecNumbers[chunk.codec], true);
  target.set(chunk.digest, at + 32);
}

/** A table of the given chunks, which must be in file order. */
export function chunkTableOf(chunks: readonly Chunk[], codecOfIndex: ChunkCodec = 'lz4'): ChunkTable {
  const bytes = new Uint8Array(chunks.length * CHUNK_RECORD_BYTES);
  for (const [i, chunk] of chunks.entries()) writeChunkRecord(bytes, i, chunk, codecOfIndex);
  return new ChunkTable(bytes, codecOfIndex);
}
