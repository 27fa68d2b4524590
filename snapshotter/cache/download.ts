/** One attempt to bring what is missing of a checkpoint to this node. */
import type { CheckpointIndex } from '../../checkpoint/index-format.ts';
import type { BlobSource } from './blob-source.ts';
import { chunkAt } from './chunk-lookup.ts';
import type { ImageFiles } from './image-files.ts';
import type { Limiter } from './limiter.ts';
import { DEFAULT_PLAN, type PlannedRange, planRanges } from './plan.ts';
import type { Presence } from './presence.ts';
import { fetchRange } from './range-fetch.ts';

/** native.writeChunk. */
export type WriteChunk = (
  fd: number,
  offset: bigint,
  stored: Uint8Array,
  decodedLength: number,
  digest: Uint8Array,
  crc32: number,
) => Promise<void>;

export interface DownloadOptions {
  index: CheckpointIndex;
  source: BlobSource;
  files: ImageFiles;
  presence: Presence;
  writeChunk: WriteChunk;
  /** Bounds the transfers of all downloads together. */
  limiter: Limiter;
  /** Transfers of this download at a time. */
  parallel: number;
  signal: AbortSignal;
  onBytes: (bytes: number) => void;
}

const CORRUPT_RETRIES = 3;
const CORRUPT_WAIT_MS = 200;

/** Resolves when nothing is missing. After the first failure the others are broken off; what was stored stays. */
export async function download(options: DownloadOptions): Promise<void> {
  const { index, presence, parallel, limiter, signal } = options;
  const ranges = planRanges(index, (ordinal) => !presence.has(ordinal));
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  // Reused from range to range: fresh pages for every byte received would cost more than its copy.
  const buffers: Buffer[] = [];
  let next = 0;
  const worker = async () => {
    for (let range = ranges[next++]; range; range = ranges[next++]) {
      const current = range;
      await limiter.run(() => fetchInto(current, buffers, options, stop));
    }
  };
  const workers = Array.from({ length: Math.min(parallel, ranges.length) }, async () => {
    try {
      await worker();
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  });
  await Promise.allSettled(workers);
  signal.throwIfAborted();
  // The first failure; those of the others are its consequence.
  if (failed.signal.aborted) throw failed.signal.reason;
}

async function fetchInto(
  range: PlannedRange,
  buffers: Buffer[],
  options: DownloadOptions,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const { index, source, presence, files, writeChunk, onBytes } = options;
  const buffer =
    range.length > DEFAULT_PLAN.maxBytes
      ? Buffer.allocUnsafeSlow(range.length)
      : (buffers.pop() ?? Buffer.allocUnsafeSlow(DEFAULT_PLAN.maxBytes));
  try {
    await fetchRange(range, buffer, {
      index,
      source,
      signal,
      corruptRetries: CORRUPT_RETRIES,
      corruptWaitMs: CORRUPT_WAIT_MS,
      onBytes,
      store: async (ordinal, stored) => {
        const { file, chunk } = chunkAt(index, ordinal);
        await files.use(file.name, (fd) =>
          writeChunk(fd, chunk.fileOffset, stored, chunk.decodedLength, chunk.digest, chunk.crc32),
        );
        presence.add(ordinal, chunk.storedLength);
      },
    });
  } finally {
    if (buffer.byteLength === DEFAULT_PLAN.maxBytes) buffers.push(buffer);
  }
}
