/** Regular files below a directory that somebody else filled, opened without following any link. */
import { close, constants, fstatSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { dataLoss } from '../error.ts';

/** native.openBeneath. */
export type OpenBeneath = (directory: string, path: string, flags: number, mode: number) => number;

/** O_NONBLOCK: opening a FIFO of that name must not hang. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const readAsync = promisify(read);
const closeAsync = promisify(close);

export class BeneathFile {
  readonly size: bigint;
  readonly #fd: number;

  private constructor(fd: number, size: bigint) {
    this.#fd = fd;
    this.size = size;
  }

  /** Throws what openat2(2) says (ENOENT, ELOOP, …), or DATA_LOSS for anything but a regular file. */
  static async open(openBeneath: OpenBeneath, directory: string, name: string): Promise<BeneathFile> {
    const fd = openBeneath(directory, name, FLAGS, 0);
    const stat = fstatSync(fd, { bigint: true });
    if (stat.isFile()) return new BeneathFile(fd, stat.size);
    await closeAsync(fd);
    throw dataLoss(`Cannot read "${name}" in ${directory}: it is no regular file`);
  }

  /** Bytes read; fewer than the buffer's length at the end of the file only when 0. */
  async read(buffer: Uint8Array, position: number): Promise<number> {
    const { bytesRead } = await readAsync(this.#fd, buffer, 0, buffer.byteLength, position);
    return bytesRead;
  }

  close(): Promise<void> {
    return closeAsync(this.#fd);
  }
}

/** A whole file of at most `maxBytes`. Errors as `BeneathFile.open`; DATA_LOSS if it is larger. */
export async function readBeneath(
  openBeneath: OpenBeneath,
  directory: string,
  name: string,
  maxBytes: number,
): Promise<Buffer> {
  const file = await BeneathFile.open(openBeneath, directory, name);
  try {
    if (file.size > BigInt(maxBytes))
      throw dataLoss(`Cannot read "${name}" in ${directory}: it is too large`);
    const bytes = Buffer.alloc(Number(file.size));
    let done = 0;
    while (done < bytes.byteLength) {
      const count = await file.read(bytes.subarray(done), done);
      if (count === 0) throw dataLoss(`Cannot read "${name}" in ${directory}: it is cut off`);
      done += count;
    }
    return bytes;
  } finally {
    await file.close();
  }
}
