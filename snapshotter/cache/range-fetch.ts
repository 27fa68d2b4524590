/** Reads one planned range, and hands on each chunk as soon as its bytes are there. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { CheckpointIndex } from '../../checkpoint/index-format.ts';
import { dataLoss, type SnapshotError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import { chunkAt } from './chunk-lookup.ts';
import { concernsBlob } from './fetch-failure.ts';
import type { PlannedRange } from './plan.ts';

export interface RangeFetch {
  index: CheckpointIndex;
  source: BlobSource;
  signal: AbortSignal;
  /** How often a chunk that arrived wrong is read again, and the first of the doubling waits before it. */
  corruptRetries: number;
  corruptWaitMs: number;
  /**
   * Verifies, decodes and stores one chunk. Rejects with errno EBADMSG if the bytes are not the chunk's. `stored` is not
   * touched before it settles.
   */
  store: (ordinal: number, stored: Uint8Array) => Promise<void>;
  /** Bytes that arrived, counted as they come. */
  onBytes: (bytes: number) => void;
  /** A chunk stays wrong: DATA_LOSS. */
  onCorrupt: (ordinal: number, error: SnapshotError) => void;
  /** A data layer's blob cannot be read at all. */
  onUnreadable: (layer: number, cause: unknown) => void;
}

/**
 * Resolves when every chunk of the range is stored, or was said to be corrupt or unreadable. `buffer` has room for the
 * range and is free again when the call settles. A chunk whose bytes are wrong is read again by itself. Rejects with
 * what breaks every transfer: network, disk, the signal.
 */
export async function fetchRange(range: PlannedRange, buffer: Buffer, fetch: RangeFetch): Promise<void> {
  const writes: Promise<void>[] = [];
  const corrupt: number[] = [];
  const failures: unknown[] = [];
  let next = 0;
  try {
    await read(range, buffer, fetch, (received) => {
      for (; next < range.ordinals.length; next++) {
        const ordinal = range.ordinals[next] as number;
        const { chunk } = chunkAt(fetch.index, ordinal);
        const start = Number(chunk.layerOffset) - range.offset;
        const end = start + chunk.storedLength;
        if (end > received) return;
        writes.push(
          fetch.store(ordinal, buffer.subarray(start, end)).catch((error: unknown) => {
            if (isCorrupt(error)) corrupt.push(ordinal);
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
  await Promise.all(corrupt.map((ordinal) => fetchAgain(ordinal, fetch)));
}

async function fetchAgain(ordinal: number, fetch: RangeFetch): Promise<void> {
  const { index, source, signal, corruptWaitMs } = fetch;
  const { file, chunk } = chunkAt(index, ordinal);
  const range: PlannedRange = {
    layer: chunk.layer,
    offset: Number(chunk.layerOffset),
    length: chunk.storedLength,
    ordinals: Uint32Array.of(ordinal),
  };
  // Files on this node do not change by reading them again.
  const retries = source.kind === 'local' ? 0 : fetch.corruptRetries;
  const buffer = Buffer.allocUnsafeSlow(chunk.storedLength);
  let cause: unknown;
  for (let retry = 0; retry < retries; retry++) {
    await sleep(corruptWaitMs * 2 ** retry, undefined, { signal });
    if (!(await read(range, buffer, fetch, () => {}))) return;
    try {
      await fetch.store(ordinal, buffer);
      return;
    } catch (error) {
      if (!isCorrupt(error)) throw error;
      cause = error;
    }
  }
  fetch.onCorrupt(
    ordinal,
    dataLoss(
      `Cannot use the checkpoint: a chunk of "${file.name}" from ${source.description} is corrupt; push the image again`,
      {
        cause,
        context: {
          file: file.name,
          ordinal,
          layer: index.dataLayers[chunk.layer]?.digest,
          offset: chunk.layerOffset,
        },
      },
    ),
  );
}

/** False if the layer cannot be read; then not all of it has come. */
async function read(
  range: PlannedRange,
  buffer: Buffer,
  fetch: RangeFetch,
  onProgress: (received: number) => void,
): Promise<boolean> {
  try {
    await fill(range, buffer, fetch, onProgress);
    return true;
  } catch (error) {
    if (fetch.signal.aborted || !concernsBlob(error)) throw error;
    fetch.onUnreadable(range.layer, error);
    return false;
  }
}

async function fill(
  range: PlannedRange,
  buffer: Buffer,
  { index, source, signal, onBytes }: RangeFetch,
  onProgress: (received: number) => void,
): Promise<void> {
  const digest = index.dataLayers[range.layer]?.digest;
  if (digest === undefined) throw new RangeError(`data layer ${range.layer} of ${index.dataLayers.length}`);
  const blob = { digest, dataLayer: range.layer };
  let received = 0;
  for await (const piece of source.read(blob, range.offset, range.length, signal)) {
    onBytes(piece.byteLength);
    if (piece.byteLength > range.length - received) break;
    buffer.set(piece, received);
    received += piece.byteLength;
    onProgress(received);
  }
  if (received !== range.length)
    throw dataLoss(
      `Cannot read layer ${digest} from ${source.description}: other bytes came than were asked for`,
    );
}

function isCorrupt(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EBADMSG';
}
