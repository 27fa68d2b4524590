/**
 * A file system of its own for data that must survive a power failure. What its programs wrote and nobody flushed is in
 * the page cache alone; what `lose` leaves is what had reached the device.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { privateDir } from './dirs.ts';
import { run } from './program.ts';

export class Disk {
  /** Where it is mounted. */
  readonly path: string;
  readonly #dir: string;
  readonly #options: string;
  #device: string;
  #copies = 0;

  private constructor(dir: string, device: string, options: string) {
    this.#dir = dir;
    this.#device = device;
    this.#options = options;
    this.path = join(dir, 'mounted');
  }

  /** Without `journalTimer` only what asks for it reaches the device, as far as a test lasts. */
  static async make(size: string, { journalTimer = false } = {}): Promise<Disk> {
    const dir = privateDir('disk');
    const disk = new Disk(dir, join(dir, 'device'), journalTimer ? 'loop' : 'loop,commit=300');
    mkdirSync(disk.path);
    await run('truncate', ['-s', size, disk.#device]);
    await run('mkfs.ext4', ['-q', disk.#device]);
    await disk.#mount();
    return disk;
  }

  /** Copies the device as it is at this moment. Nothing may be writing. */
  async copy(): Promise<string> {
    this.#copies += 1;
    const copy = join(this.#dir, `copy-${this.#copies}`);
    await run('cp', ['--sparse=always', this.#device, copy], { timeoutMs: 60_000 });
    return copy;
  }

  /** Mounts such a copy instead. Nobody may use the disk meanwhile. */
  async become(copy: string): Promise<void> {
    await run('umount', [this.path]);
    rmSync(this.#device);
    this.#device = copy;
    await this.#mount();
  }

  async remove(): Promise<void> {
    await run('umount', [this.path]);
    rmSync(this.#dir, { recursive: true });
  }

  #mount(): Promise<unknown> {
    return run('mount', ['-o', this.#options, this.#device, this.path]);
  }
}
