/**
 * Chunks of numbers, such as a model's weights: every fourth byte together. What a general compressor takes for noise is, of
 * a float, sign and exponent, which take few values, beside a fraction that is noise indeed. So the bytes at each place of
 * four-byte words are a plane, and each plane is one zstd frame, or as it is where that does not save a tenth: then
 * decoding is a copy. Two-byte floats have two such planes of the four. Layout: docs/image-format.md, "Planes".
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

export const PLANES = 4;
/** Length of each plane as it is stored, u32. */
const HEAD_BYTES = 4 * PLANES;
const SAMPLE = 4096;

/**
 * Huffman codes and next to no matches, which are there by chance and cost more than they save: with zstd's own idea of
 * level 1, sign and exponent of weights from a normal distribution take 0.38 of their bytes, so 0.336, and entropy allows 0.326.
 */
const FRAME = {
  [constants.ZSTD_c_compressionLevel]: 1,
  [constants.ZSTD_c_minMatch]: 7,
  [constants.ZSTD_c_hashLog]: 6,
};

/** What a sample of a chunk says of its planes. */
export interface PlaneGains {
  /** Which of them are smaller as a frame. */
  gains: readonly boolean[];
  /** Some are and another one is noise, as of floats: nothing that looks for repeats finds any. */
  likeFloats: boolean;
}

/** Undefined where no plane gains, or the length is no multiple of four. */
export function planeGains(bytes: Buffer): PlaneGains | undefined {
  if (bytes.length % PLANES !== 0 || bytes.length < 2 * HEAD_BYTES) return undefined;
  const bits = Array.from({ length: PLANES }, (_, plane) => sampledBits(bytes, plane));
  const gains = bits.map((each) => each < 0.9 * 8);
  // Of 4096 bytes of noise, a sample's entropy is 7.95.
  return gains.includes(true) ? { gains, likeFloats: bits.some((each) => each > 7.7) } : undefined;
}

export function encodePlanes(bytes: Buffer, { gains }: PlaneGains): Buffer {
  const stored = split(bytes).map((plane, i) => {
    const frame = gains[i] ? zstdCompressSync(plane, { params: FRAME }) : plane;
    return frame.length < 0.9 * plane.length ? frame : plane;
  });
  const head = Buffer.alloc(HEAD_BYTES);
  for (const [i, { length }] of stored.entries()) head.writeUInt32LE(length, 4 * i);
  return Buffer.concat([head, ...stored]);
}

/** Throws unless `stored` is planes of exactly `decodedLength` bytes, which the caller bounds. */
export function decodePlanes(stored: Buffer, decodedLength: number): Buffer {
  if (decodedLength % PLANES !== 0 || stored.length < HEAD_BYTES) throw new RangeError('no planes');
  const planeBytes = decodedLength / PLANES;
  const decoded = Buffer.alloc(decodedLength);
  let at = HEAD_BYTES;
  for (let i = 0; i < PLANES; i++) {
    const length = stored.readUInt32LE(4 * i);
    if (length === 0 || length > planeBytes || length > stored.length - at)
      throw new RangeError(`plane ${i} has ${length} bytes`);
    const part = stored.subarray(at, at + length);
    const plane = length === planeBytes ? part : zstdDecompressSync(part, { maxOutputLength: planeBytes });
    if (plane.length !== planeBytes) throw new RangeError(`plane ${i} decodes to ${plane.length} bytes`);
    for (let k = 0; k < planeBytes; k++) decoded[PLANES * k + i] = plane[k] as number;
    at += length;
  }
  if (at !== stored.length) throw new RangeError(`${stored.length - at} bytes behind the planes`);
  return decoded;
}

/** Four words at a time: packing has a byte of each to move for every byte of the dump. */
function split(bytes: Buffer): Buffer[] {
  // A copy, as words may only be read where they are aligned.
  const words = new Uint32Array(Math.ceil(bytes.length / 16) * 4);
  new Uint8Array(words.buffer).set(bytes);
  const quarter = words.length / 4;
  const planes = Array.from({ length: PLANES }, () => new Uint32Array(quarter));
  const [first, second, third, fourth] = planes as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  for (let k = 0; k < quarter; k++) {
    const a = words[4 * k] as number;
    const b = words[4 * k + 1] as number;
    const c = words[4 * k + 2] as number;
    const d = words[4 * k + 3] as number;
    first[k] = (a & 0xff) | ((b & 0xff) << 8) | ((c & 0xff) << 16) | (d << 24);
    second[k] = ((a >>> 8) & 0xff) | (b & 0xff00) | ((c & 0xff00) << 8) | ((d & 0xff00) << 16);
    third[k] = ((a >>> 16) & 0xff) | ((b >>> 8) & 0xff00) | (c & 0xff0000) | ((d & 0xff0000) << 8);
    fourth[k] = (a >>> 24) | ((b >>> 16) & 0xff00) | ((c >>> 8) & 0xff0000) | (d & 0xff000000);
  }
  return planes.map((plane) => Buffer.from(plane.buffer, 0, bytes.length / PLANES));
}

/** Entropy in bits a byte of some words of the chunk, at this place in them. */
function sampledBits(bytes: Buffer, plane: number): number {
  const words = bytes.length / PLANES;
  const step = Math.max(1, Math.floor(words / SAMPLE));
  const counts = new Uint32Array(256);
  let total = 0;
  for (let word = 0; word < words; word += step, total++) {
    const byte = bytes[PLANES * word + plane] as number;
    counts[byte] = (counts[byte] as number) + 1;
  }
  let bits = 0;
  for (const count of counts) if (count > 0) bits -= (count / total) * Math.log2(count / total);
  return bits;
}
