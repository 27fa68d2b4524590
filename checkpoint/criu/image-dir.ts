/** Reads a directory of CRIU images that may come from anywhere: bounded, and without following any link. */
import { constants } from 'node:fs';
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { broken, type Magic, readMessages } from './framing.ts';

/** Large enough for the page map of hundreds of GB, small enough to be read at once. */
export const MAX_IMAGE_BYTES = 128 * 1024 * 1024;

/** Files that are read at a time. */
const AHEAD = 8;

export class ImageDir {
  readonly #directory: FileHandle;

  private constructor(directory: FileHandle) {
    this.#directory = directory;
  }

  /** Opens the directory itself; the path to it is the caller's and trusted. */
  static async open(path: string): Promise<ImageDir> {
    return new ImageDir(await open(path, constants.O_RDONLY | constants.O_DIRECTORY));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#directory.close();
  }

  names(): Promise<string[]> {
    return readdir(this.#path);
  }

  /** The bytes of a regular file. Throws dataLoss if it is something else or larger than `maxBytes`. */
  read(name: string, maxBytes = MAX_IMAGE_BYTES): Promise<Buffer> {
    return this.#use(name, async (file, size) => {
      if (size > maxBytes) throw broken(name, `it has more than ${maxBytes} bytes`);
      return file.readFile();
    });
  }

  /** The first bytes of a regular file that may be large, at most `maxBytes`. */
  readStart(name: string, maxBytes: number): Promise<Buffer> {
    return this.#use(name, async (file, size) => {
      const start = Buffer.alloc(Math.min(size, maxBytes));
      const { bytesRead } = await file.read(start, 0, start.length, 0);
      return start.subarray(0, bytesRead);
    });
  }

  async #use(name: string, use: (file: FileHandle, size: number) => Promise<Buffer>): Promise<Buffer> {
    if (name.includes('/') || name === '.' || name === '..') throw broken(name, 'it is no file name');
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = await open(`${this.#path}/${name}`, flags).catch((cause: NodeJS.ErrnoException) => {
      throw broken(name, cause.code === 'ENOENT' ? 'it is missing' : 'it is no regular file', cause);
    });
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw broken(name, 'it is no regular file');
      return await use(file, stat.size);
    } finally {
      await file.close();
    }
  }

  /** The bytes of all of these, in order; a few files are read at a time, as each waits for the one before it otherwise. */
  async *readAll(names: readonly string[], maxBytes = MAX_IMAGE_BYTES): AsyncGenerator<[string, Buffer]> {
    const reads: Promise<Buffer>[] = [];
    try {
      for (const [i, name] of names.entries()) {
        while (reads.length < Math.min(i + AHEAD, names.length)) {
          const read = this.read(names[reads.length] as string, maxBytes);
          // The one that fails first is met in order.
          read.catch(() => {});
          reads.push(read);
        }
        yield [name, await (reads[i] as Promise<Buffer>)];
        delete reads[i];
      }
    } finally {
      // They go through the directory's descriptor, which may be closed after this.
      await Promise.allSettled(reads);
    }
  }

  async messages(name: string, magic: Magic, maxBytes = MAX_IMAGE_BYTES): Promise<Uint8Array[]> {
    return readMessages(await this.read(name, maxBytes), magic, name);
  }

  /** Through the descriptor, so that nobody can put another directory in its place meanwhile. */
  get #path(): string {
    return `/proc/self/fd/${this.#directory.fd}`;
  }
}
