/**
 * Frames that a lazy layer has in common with others on this node, as two versions of an image may: what is here in one is
 * copied into the other, so that the registry sends it once.
 */
import { write } from 'node:fs';
import { open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import type { ChunkTable } from '../../checkpoint/chunk-table.ts';
import type { BlobSource } from './blob-source.ts';
import { ImageFiles } from './image-files.ts';
import type { JobChunk, RangeJob } from './range-job.ts';
import type { TransferEvents, Transfers } from './transfers.ts';

/** A layer on this node: its frames, where their decoded bytes lie, and which are there. */
export interface OtherLayer {
  frames: ChunkTable;
  /** Of the file that they are decoded into. */
  path: string;
  has(frame: number): boolean;
}

export interface FrameCopy {
  layer: OtherLayer;
  frame: number;
}

/** By the number of the frame; a copy need not be here yet. */
export type FrameCopies = ReadonlyMap<number, readonly FrameCopy[]>;

const writeAsync = promisify(write);

/** Lets others have the thread after each layer. */
export async function findCopies(frames: ChunkTable, others: Iterable<OtherLayer>): Promise<FrameCopies> {
  const byKey = new Map<number, number[]>();
  for (let frame = 0; frame < frames.count; frame++) {
    const key = keyOf(frames.digest(frame));
    const same = byKey.get(key);
    if (same) same.push(frame);
    else byKey.set(key, [frame]);
  }
  const copies = new Map<number, FrameCopy[]>();
  for (const layer of others) {
    for (let frame = 0; frame < layer.frames.count; frame++)
      for (const own of byKey.get(keyOf(layer.frames.digest(frame))) ?? []) {
        if (!isSame(frames, own, layer.frames, frame)) continue;
        const known = copies.get(own);
        if (known) known.push({ layer, frame });
        else copies.set(own, [{ layer, frame }]);
      }
    await setImmediate();
  }
  return copies;
}

/** Copies what it can and has others fetch the rest. */
export class CopyingTransfers implements Transfers {
  readonly #inner: Transfers;
  readonly #copies: FrameCopies;
  readonly #onCopied: (storedBytes: number) => void;

  constructor(inner: Transfers, copies: FrameCopies, onCopied: (storedBytes: number) => void) {
    this.#inner = inner;
    this.#copies = copies;
    this.#onCopied = onCopied;
  }

  async run(
    job: RangeJob,
    source: BlobSource,
    directory: string,
    events: TransferEvents,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.#copies.size === 0) return this.#inner.run(job, source, directory, events, signal);
    const files = new ImageFiles(directory);
    const missing: JobChunk[] = [];
    for (const part of job.chunks) {
      signal.throwIfAborted();
      const bytes = await this.#read(part);
      if (!bytes) {
        missing.push(part);
        continue;
      }
      await files.use(part.file, (fd) => writeWhole(fd, bytes, Number(part.chunk.fileOffset)));
      this.#onCopied(part.chunk.storedLength);
      events.onStored(part.ordinal);
    }
    if (missing.length === job.chunks.length) return this.#inner.run(job, source, directory, events, signal);
    for (const piece of piecesOf(job, missing))
      await this.#inner.run(piece, source, directory, events, signal);
  }

  /** Undefined for what has to be fetched. */
  async #read({ ordinal, chunk }: JobChunk): Promise<Buffer | undefined> {
    const copy = this.#copies.get(ordinal)?.find(({ layer, frame }) => layer.has(frame));
    if (!copy) return undefined;
    const { layer, frame } = copy;
    const bytes = await readWhole(layer.path, Number(layer.frames.fileOffset(frame)), chunk.decodedLength);
    // It was verified when it came, but the other layer may be on its way out, and a disk may have lost it.
    return bytes && crc32(bytes) === chunk.crc32 ? bytes : undefined;
  }
}

/** What is left of a job: one for each run of neighbours, so that nothing is read that is here. */
export function piecesOf(job: RangeJob, chunks: readonly JobChunk[]): RangeJob[] {
  const runs: JobChunk[][] = [];
  let next = -1;
  for (const part of chunks) {
    const { layerOffset, storedLength } = part.chunk;
    if (Number(layerOffset) === next) runs.at(-1)?.push(part);
    else runs.push([part]);
    next = Number(layerOffset) + storedLength;
  }
  return runs.map((run) => {
    const offset = Number(run[0]?.chunk.layerOffset);
    const length = run.reduce((sum, { chunk }) => sum + chunk.storedLength, 0);
    return { ...job, offset, length, chunks: run };
  });
}

/** 48 bits: most frames of two layers that differ do so here. */
function keyOf(digest: Uint8Array): number {
  const view = new DataView(digest.buffer, digest.byteOffset, digest.byteLength);
  return view.getUint32(0) * 2 ** 16 + view.getUint16(4);
}

/** The same stored bytes are the same decoded ones; what else an index says of them must be the same too. */
function isSame(mine: ChunkTable, i: number, theirs: ChunkTable, k: number): boolean {
  return (
    Buffer.compare(mine.digest(i), theirs.digest(k)) === 0 &&
    mine.decodedLength(i) === theirs.decodedLength(k) &&
    mine.crc32(i) === theirs.crc32(k)
  );
}

async function readWhole(path: string, position: number, length: number): Promise<Buffer | undefined> {
  try {
    const handle = await open(path, 'r');
    try {
      const buffer = Buffer.allocUnsafeSlow(length);
      const { bytesRead } = await handle.read(buffer, 0, length, position);
      return bytesRead === length ? buffer : undefined;
    } finally {
      await handle.close();
    }
  } catch {
    // Whatever is wrong with the copy, the registry has it.
    return undefined;
  }
}

async function writeWhole(fd: number, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await writeAsync(fd, bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
