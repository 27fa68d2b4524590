/** Reads one planned range, and hands on each chunk as soon as its bytes are there. */
import { setTimeout as sleep } from 'node:timers/promises';
import { dataLoss, type SnapshotError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import { concernsBlob } from './fetch-failure.ts';
import type { JobChunk, RangeJob } from './range-job.ts';

export interface RangeFetch {
  source: BlobSource;
  signal: AbortSignal;
  /** How often a chunk that arrived wrong is read again, and the first of the doubling waits before it. */
  corruptRetries: number;
  corruptWaitMs: number;
  /**
   * Verifies, decodes and stores one chunk. Rejects with errno EBADMSG if the bytes are not the chunk's. `stored` is not
   * touched before it settles.
   */
  store: (chunk: JobChunk, stored: Uint8Array) => Promise<void>;
  /** Bytes that arrived, counted as they come. */
  onBytes: (bytes: number) => void;
  /** A chunk stays wrong: DATA_LOSS. */
  onCorrupt: (ordinal: number, error: SnapshotError) => void;
  /** The blob cannot be read at all. */
  onUnreadable: (cause: unknown) => void;
}

/**
 * Resolves when every chunk of the range is stored, or was said to be corrupt or unreadable. `buffer` has room for the
 * range and is free again when the call settles. A chunk whose bytes are wrong is read again by itself. Rejects with
 * what breaks every transfer: network, disk, the signal.
 */
export async function fetchRange(job: RangeJob, buffer: Buffer, fetch: RangeFetch): Promise<void> {
  const writes: Promise<void>[] = [];
  const corrupt: JobChunk[] = [];
  const failures: unknown[] = [];
  let next = 0;
  try {
    await read(job, buffer, fetch, (received) => {
      for (; next < job.chunks.length; next++) {
        const part = job.chunks[next] as JobChunk;
        const start = Number(part.chunk.layerOffset) - job.offset;
        const end = start + part.chunk.storedLength;
        if (end > received) return;
        writes.push(
          fetch.store(part, buffer.subarray(start, end)).catch((error: unknown) => {
            if (isCorrupt(error)) corrupt.push(part);
            else failures.push(error);
          }),
        );
      }
    });
  } finally {
    // The buffer is in use until the last of them is through.
    await Promise.all(writes);
  }
  if (failures.length > 0) throw failures[0];
  await Promise.all(corrupt.map((part) => fetchAgain(job, part, fetch)));
}

async function fetchAgain({ blob, rank }: RangeJob, part: JobChunk, fetch: RangeFetch): Promise<void> {
  const { source, signal, corruptWaitMs } = fetch;
  const { ordinal, file, chunk } = part;
  const offset = Number(chunk.layerOffset);
  const alone: RangeJob = { blob, rank, offset, length: chunk.storedLength, chunks: [part] };
  // Files on this node do not change by reading them again.
  const retries = source.kind === 'local' ? 0 : fetch.corruptRetries;
  const buffer = Buffer.allocUnsafeSlow(chunk.storedLength);
  let cause: unknown;
  for (let retry = 0; retry < retries; retry++) {
    await sleep(corruptWaitMs * 2 ** retry, undefined, { signal });
    if (!(await read(alone, buffer, fetch, () => {}, true))) return;
    try {
      await fetch.store(part, buffer);
      return;
    } catch (error) {
      if (!isCorrupt(error)) throw error;
      cause = error;
    }
  }
  fetch.onCorrupt(
    ordinal,
    dataLoss(
      `Cannot use the checkpoint: a chunk of "${file}" from ${source.description} is corrupt; push the image again`,
      {
        cause,
        context: { file, ordinal, layer: blob.digest, offset: chunk.layerOffset },
      },
    ),
  );
}

/** False if the layer cannot be read; then not all of it has come. */
async function read(
  job: RangeJob,
  buffer: Buffer,
  fetch: RangeFetch,
  onProgress: (received: number) => void,
  again = false,
): Promise<boolean> {
  try {
    await fill(job, buffer, fetch, onProgress, again);
    return true;
  } catch (error) {
    if (fetch.signal.aborted || !concernsBlob(error)) throw error;
    fetch.onUnreadable(error);
    return false;
  }
}

async function fill(
  { blob, offset, length }: RangeJob,
  buffer: Buffer,
  { source, signal, onBytes }: RangeFetch,
  onProgress: (received: number) => void,
  again: boolean,
): Promise<void> {
  let received = 0;
  for await (const piece of source.read(blob, offset, length, signal, again)) {
    onBytes(piece.byteLength);
    if (piece.byteLength > length - received) break;
    buffer.set(piece, received);
    received += piece.byteLength;
    onProgress(received);
  }
  if (received !== length)
    throw dataLoss(
      `Cannot read layer ${blob.digest} from ${source.description}: other bytes came than were asked for`,
    );
}

function isCorrupt(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EBADMSG';
}
