import { closeSync } from 'node:fs';

/** Descriptors close exactly once, whatever fails. */
export class Descriptors {
  readonly #open = new Set<number>();

  add(fd: number): number {
    this.#open.add(fd);
    return fd;
  }

  /** The descriptor now belongs to somebody else. */
  release(fd: number): number {
    this.#open.delete(fd);
    return fd;
  }

  close(fd: number): void {
    if (this.#open.delete(fd)) closeSync(fd);
  }

  closeAll(): void {
    for (const fd of [...this.#open]) this.close(fd);
  }
}
