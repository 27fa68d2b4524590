/** Who fetches a range: this thread, or others (fetch/). */
import { codecNumbers } from '../../checkpoint/chunk-table.ts';
import type { Addon } from '../../native/index.ts';
import type { SnapshotError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import { ImageFiles } from './image-files.ts';
import { DEFAULT_PLAN } from './plan.ts';
import { fetchRange } from './range-fetch.ts';
import type { RangeJob } from './range-job.ts';

export type WriteChunk = Addon['writeChunk'];

export interface TransferEvents {
  /** Bytes that arrived since it was told before, and how many of them from a mirror. */
  onBytes(bytes: number, mirrored?: number): void;
  /** The chunk is verified and written. */
  onStored(ordinal: number): void;
  /** A chunk stays wrong: DATA_LOSS. */
  onCorrupt(ordinal: number, error: SnapshotError): void;
  /** The data layer's blob cannot be read at all. */
  onUnreadable(cause: unknown): void;
}

export interface Transfers {
  /**
   * Fetches a range into the files of `directory`. Resolves when every chunk of it was told of in `events`. Rejects
   * with what breaks every transfer (network, disk, the signal), once nothing is written any more.
   */
  run(
    job: RangeJob,
    source: BlobSource,
    directory: string,
    events: TransferEvents,
    signal: AbortSignal,
  ): Promise<void>;
}

const CORRUPT_RETRIES = 3;
const CORRUPT_WAIT_MS = 200;
/** Directories whose open files are remembered; those in use are never forgotten. */
const MAX_DIRECTORIES = 64;

/** In this thread; verifying, decoding and writing are libuv's workers', or this thread's too. */
export class DirectTransfers implements Transfers {
  readonly #writeChunk: WriteChunk;
  readonly #writeHere: WriteChunk;
  readonly #files = new Map<string, ImageFiles>();
  /** Reused from range to range: fresh pages for every byte received would cost more than its copy. */
  readonly #buffers: Buffer[] = [];

  /**
   * `writeHere` does the same in this thread: what somebody waits for is not put behind the hundreds of chunks of a stream
   * that libuv's workers have before them, and what is in the background costs its own thread's time only.
   */
  constructor(writeChunk: WriteChunk, writeHere: WriteChunk = writeChunk) {
    this.#writeChunk = writeChunk;
    this.#writeHere = writeHere;
  }

  async run(
    job: RangeJob,
    source: BlobSource,
    directory: string,
    events: TransferEvents,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    const files = this.#filesOf(directory);
    const here = job.rank === 'wanted' || job.rank === 'background';
    const write = here ? this.#writeHere : this.#writeChunk;
    const buffer = this.#take(job.length);
    try {
      await fetchRange(job, buffer, {
        source,
        signal,
        corruptRetries: CORRUPT_RETRIES,
        corruptWaitMs: CORRUPT_WAIT_MS,
        onBytes: (bytes) => events.onBytes(bytes),
        store: async ({ ordinal, file, chunk }, stored) => {
          const { fileOffset, decodedLength, digest, crc32, codec } = chunk;
          await files.use(file, (fd) =>
            write(fd, fileOffset, stored, decodedLength, digest, crc32, codecNumbers[codec]),
          );
          events.onStored(ordinal);
        },
        onCorrupt: (ordinal, error) => events.onCorrupt(ordinal, error),
        onUnreadable: (cause) => events.onUnreadable(cause),
      });
    } finally {
      if (buffer.byteLength === DEFAULT_PLAN.maxBytes) this.#buffers.push(buffer);
    }
  }

  /** Drops the buffers that were kept. */
  trim(): void {
    this.#buffers.length = 0;
  }

  #filesOf(directory: string): ImageFiles {
    const known = this.#files.get(directory);
    if (known) return known;
    if (this.#files.size >= MAX_DIRECTORIES)
      for (const [path, files] of this.#files) if (!files.inUse) this.#files.delete(path);
    const files = new ImageFiles(directory);
    this.#files.set(directory, files);
    return files;
  }

  #take(length: number): Buffer {
    const { maxBytes } = DEFAULT_PLAN;
    // A small one has its own size, or a few wanted chunks would hold 8 MiB each.
    if (length > maxBytes || length <= maxBytes / 4) return Buffer.allocUnsafeSlow(length);
    return this.#buffers.pop() ?? Buffer.allocUnsafeSlow(maxBytes);
  }
}
