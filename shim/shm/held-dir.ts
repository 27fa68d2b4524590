/**
 * Directories that others may change meanwhile: what is in one is reached through its descriptor, so that no name can
 * become a link to elsewhere between a look and a step.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

export class HeldDir {
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** The path itself is the caller's and trusted. */
  static async open(path: string): Promise<HeldDir> {
    return new HeldDir(await open(path, DIRECTORY));
  }

  /** Path of an entry, for calls that do not follow a link at the end. */
  at(name: string): string {
    return `/proc/self/fd/${this.#handle.fd}/${name}`;
  }

  /** For calls on the directory itself. */
  get self(): string {
    return `/proc/self/fd/${this.#handle.fd}`;
  }

  get handle(): FileHandle {
    return this.#handle;
  }

  /** Fails with ENOTDIR or ELOOP for anything but a directory. */
  async child(name: string): Promise<HeldDir> {
    return new HeldDir(await open(this.at(name), DIRECTORY | constants.O_NOFOLLOW));
  }

  /** Calls back with the directory that a relative path lies in, and its last name. */
  async within<Result>(path: string, use: (dir: HeldDir, name: string) => Promise<Result>): Promise<Result> {
    const slash = path.indexOf('/');
    if (slash < 0) return use(this, path);
    const child = await this.child(path.slice(0, slash));
    try {
      return await child.within(path.slice(slash + 1), use);
    } finally {
      await child.close();
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}
