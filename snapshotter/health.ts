/** Whether the daemon can do its work. Asks neither containerd nor a registry: what is here is served without them. */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { explainFullDisk, unavailable } from './error.ts';
import type { OverlaySnapshotter } from './overlay/index.ts';

export interface HealthChecks {
  /** Throws if only a restart helps. */
  live(): void;
  /** Throws if no snapshot can be made now. Shared by all who ask within a second. */
  ready(): Promise<void>;
}

const FILE = 'probe';
const BYTES = Buffer.alloc(4096, 1);
const FRESH_MS = 1_000;
/** A disk that takes longer to write one block stands still. */
const DISK_MS = 5_000;

export class Health implements HealthChecks {
  readonly #path: string;
  readonly #snapshotter: Pick<OverlaySnapshotter, 'check' | 'flushed'>;
  readonly #diskMs: number;
  #asked: { at: number; answer: Promise<void> } | undefined;

  constructor(
    root: string,
    snapshotter: Pick<OverlaySnapshotter, 'check' | 'flushed'>,
    diskMs: number = DISK_MS,
  ) {
    this.#path = join(root, FILE);
    this.#snapshotter = snapshotter;
    this.#diskMs = diskMs;
  }

  live(): void {
    this.#snapshotter.check();
  }

  ready(): Promise<void> {
    const now = performance.now();
    if (!this.#asked || now - this.#asked.at > FRESH_MS) this.#asked = { at: now, answer: this.#look() };
    return this.#asked.answer;
  }

  async #look(): Promise<void> {
    this.live();
    let timer: NodeJS.Timeout | undefined;
    const stuck = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () =>
          reject(unavailable(`Cannot write "${this.#path}": the disk did not take it in ${this.#diskMs} ms`)),
        this.#diskMs,
      );
    });
    try {
      await Promise.race([this.#write(), stuck]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #write(): Promise<void> {
    try {
      const file = await open(this.#path, 'w', 0o600);
      try {
        await file.writeFile(BYTES);
        await file.datasync();
      } finally {
        await file.close();
      }
      await rm(this.#path);
    } catch (error) {
      throw explainFullDisk(this.#path, error);
    }
    await this.#snapshotter.flushed();
  }
}
