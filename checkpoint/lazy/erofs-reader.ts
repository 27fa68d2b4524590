/** Files of an EROFS image as erofsImage makes it, for whoever wants to know what a place in the tar belongs to. */
import { BLOCK, chunkIndexOffset, DIRENT_BYTES, META_BLOCK, SLOT } from './erofs-format.ts';

export interface PlacedFile {
  /** Without a leading slash; bytes as latin1. */
  path: string;
  size: number;
  /** Of its content in the tar. */
  offset: number;
}

const DIRECTORY = 2;
const FILE = 1;
const CHUNKED = 4;

/** Each name of each file that has content. RangeError for an image that is not like ours. */
export function* filesOf(image: Buffer): Generator<PlacedFile> {
  const pending: { at: number; path: string }[] = [{ at: META_BLOCK * BLOCK, path: '' }];
  // A directory in itself would be walked for ever.
  const seen = new Set<number>();
  for (let next = pending.pop(); next; next = pending.pop()) {
    if (seen.has(next.at)) throw new RangeError('a directory is in two places');
    seen.add(next.at);
    for (const { name, type, at } of entriesOf(image, next.at)) {
      if (name === '.' || name === '..') continue;
      const path = next.path === '' ? name : `${next.path}/${name}`;
      if (type === DIRECTORY) pending.push({ at, path });
      else if (type === FILE && layoutOf(image, at) === CHUNKED)
        yield { path, size: Number(image.readBigUInt64LE(at + 8)), offset: contentOffset(image, at) };
    }
  }
}

/** The file that has the byte of the tar at `offset`; undefined for headers and padding. */
export function fileAt(image: Buffer, offset: number): string | undefined {
  for (const file of filesOf(image))
    if (offset >= file.offset && offset < file.offset + file.size) return file.path;
  return undefined;
}

function layoutOf(image: Buffer, at: number): number {
  return (image.readUInt16LE(at) >> 1) & 7;
}

function contentOffset(image: Buffer, at: number): number {
  const count = image.readUInt16LE(at + 2);
  const xattrs = count === 0 ? 0 : 12 + (count - 1) * 4;
  return image.readUInt32LE(chunkIndexOffset(at, xattrs) + 4) * BLOCK;
}

function* entriesOf(image: Buffer, directory: number): Generator<{ name: string; type: number; at: number }> {
  const size = Number(image.readBigUInt64LE(directory + 8));
  const start = image.readUInt32LE(directory + 16) * BLOCK;
  for (let done = 0; done < size; done += BLOCK) {
    const block = image.subarray(start + done, start + Math.min(size, done + BLOCK));
    const count = block.readUInt16LE(8) / DIRENT_BYTES;
    for (let i = 0; i < count; i++) {
      const entry = i * DIRENT_BYTES;
      const nameAt = block.readUInt16LE(entry + 8);
      const next = i + 1 < count ? block.readUInt16LE(entry + DIRENT_BYTES + 8) : endOfName(block, nameAt);
      yield {
        name: block.toString('latin1', nameAt, next),
        type: block.readUInt8(entry + 10),
        at: META_BLOCK * BLOCK + Number(block.readBigUInt64LE(entry)) * SLOT,
      };
    }
  }
}

/** The last name of a block ends with it, or before the zeros at its end. */
function endOfName(block: Buffer, start: number): number {
  const zero = block.indexOf(0, start);
  return zero === -1 ? block.length : zero;
}
