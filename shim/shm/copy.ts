import type { FileHandle } from 'node:fs/promises';

const BLOCK_BYTES = 1 << 20;
const ZEROS = Buffer.alloc(BLOCK_BYTES);

/** One end of a copy: from `at` bytes on. */
export interface Place {
  file: FileHandle;
  at: number;
}

/** Blocks of zeros become holes: the target must have none but zeros there. Returns the bytes that the source had. */
export async function copyBytes(from: Place, to: Place, size: number): Promise<number> {
  const block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, size));
  let done = 0;
  while (done < size) {
    const got = await readBlock(from, done, block.subarray(0, size - done));
    if (got.length === 0) break;
    if (!got.equals(ZEROS.subarray(0, got.length))) await writeBlock(to, done, got);
    done += got.length;
  }
  return done;
}

/** Whether both have these bytes. */
export async function sameBytes(a: Place, b: Place, size: number): Promise<boolean> {
  const [left, right] = [0, 1].map(() => Buffer.allocUnsafe(Math.min(BLOCK_BYTES, size))) as [Buffer, Buffer];
  for (let done = 0; done < size; ) {
    const [x, y] = await Promise.all([
      readBlock(a, done, left.subarray(0, size - done)),
      readBlock(b, done, right.subarray(0, size - done)),
    ]);
    if (x.length === 0 || !x.equals(y)) return false;
    done += x.length;
  }
  return true;
}

async function readBlock({ file, at }: Place, offset: number, into: Buffer): Promise<Buffer> {
  let length = 0;
  while (length < into.length) {
    const { bytesRead } = await file.read(into, length, into.length - length, at + offset + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return into.subarray(0, length);
}

async function writeBlock({ file, at }: Place, offset: number, bytes: Buffer): Promise<void> {
  for (let length = 0; length < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, length, bytes.length - length, at + offset + length);
    length += bytesWritten;
  }
}
