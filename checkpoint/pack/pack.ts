import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { formatIndexAnnotation, type IndexLocation } from '../annotation.ts';
import { CHUNK_RECORD_BYTES, ChunkTable } from '../chunk-table.ts';
import { digestOf } from '../digest.ts';
import { CheckpointError } from '../error.ts';
import type { CheckpointFacts } from '../facts.ts';
import { encodeIndex, type IndexFile, type LayerReads } from '../index-format.ts';
import { buildIndexLayer, CHECKPOINT_JSON_OFFSET } from '../layer-layout.ts';
import { limits } from '../limits.ts';
import { isOpenLayerName } from './lane-writer.ts';
import { listImages } from './list-images.ts';
import { type PackPlan, planPack } from './plan.ts';
import { SharedState, type WorkerResult } from './protocol.ts';
import { WorkerPool } from './worker-pool.ts';

/**
 * Measured with lz4-napi on one core: LZ4 at 341, 364 and 278 MB/s in chunks of 256 KiB, 512 KiB and 1 MiB, at the
 * same ratio.
 */
export const DEFAULT_CHUNK_BYTES = 512 * 1024;

const PROGRESS_MS = 100;

/** A layer tar in the scratch directory. */
export interface PackedLayer {
  path: string;
  /** Blob digest and diff ID at once. */
  digest: string;
  /** Bytes. */
  size: number;
}

export interface PackedData {
  /** In the order of the index. */
  layers: PackedLayer[];
  files: Omit<IndexFile, 'firstOrdinal'>[];
  /** Bytes of the files packed, of those not dropped as zeros, and as stored. */
  fileBytes: number;
  decodedBytes: number;
  storedBytes: number;
}

export interface PackedIndex extends PackedLayer {
  location: IndexLocation;
  /** Value of INDEX_ANNOTATION for every checkpoint layer. */
  annotation: string;
}

export interface PackProgress {
  /** First every byte of the dump is packed, then every byte of the layers is hashed. */
  phase: 'pack' | 'hash';
  done: number;
  total: number;
}

export interface PackOptions {
  /** Directory of CRIU images. */
  imagesDir: string;
  /** Made if missing, root only. What is made in it is removed again on failure. */
  scratchDir: string;
  signal?: AbortSignal | undefined;
  onProgress?: (progress: PackProgress) => void;
  /** Default: one per core. */
  threads?: number;
  /** Default: 8 GiB less a block. */
  layerBytes?: number;
  /** A power of two from 256 KiB to 1 MiB. */
  chunkBytes?: number;
  /** Default: by the size of the dump. Equal dumps make equal layers only with equal lanes. */
  lanes?: number;
}

/**
 * Packs a dump into data layers. Works in threads: the event loop stays free, and memory stays below a few MB a
 * thread. Throws resourceExhausted for a full disk, canceled for an aborted signal.
 */
export async function packDataLayers(options: PackOptions): Promise<PackedData> {
  const { imagesDir, scratchDir, signal, chunkBytes = DEFAULT_CHUNK_BYTES } = options;
  const layerBytes = options.layerBytes ?? limits.dataLayerBytes;
  if (layerBytes < chunkBytes || layerBytes > limits.dataLayerBytes)
    throw new CheckpointError(
      Code.invalidArgument,
      `Cannot pack data layers of ${layerBytes} bytes: allowed are ${chunkBytes} to ${limits.dataLayerBytes}`,
    );
  throwIfAborted(signal);
  const plan = planPack(await listImages(imagesDir), chunkBytes, options.lanes);
  await mkdir(scratchDir, { recursive: true, mode: 0o700 });
  const shared = new SharedState();
  const threads = Math.max(1, Math.min(options.threads ?? availableParallelism(), plan.lanes.length));
  const names = plan.files.map((file) => file.name);
  const setup = { imagesDir, scratchDir, names, chunkBytes, layerBytes, shared: shared.buffer };
  const made = new Set<string>();
  const pool = new WorkerPool(threads, setup, shared);
  const stop = () => shared.stop();
  signal?.addEventListener('abort', stop);
  try {
    return await runPhases(plan, pool, shared, made, options);
  } catch (error) {
    await pool.close();
    await removeOpenLayers(scratchDir);
    for (const path of made) await rm(path, { force: true });
    throwIfAborted(signal);
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
    await pool.close();
  }
}

async function runPhases(
  plan: PackPlan,
  pool: WorkerPool,
  shared: SharedState,
  made: Set<string>,
  { scratchDir, signal, onProgress }: PackOptions,
): Promise<PackedData> {
  const fileBytes = plan.files.reduce((sum, file) => sum + file.size, 0);
  const packed = await reported(shared, { phase: 'pack', total: fileBytes }, onProgress, () =>
    pool.run(plan.lanes.map((pieces, lane) => ({ kind: 'pack', lane, pieces }))),
  );
  throwIfAborted(signal);
  const lanes = packed.filter((result) => result.kind === 'packed');
  const open = lanes.flatMap((lane) => lane.layers);
  if (open.length > limits.dataLayers)
    throw new CheckpointError(
      Code.resourceExhausted,
      `Cannot pack the checkpoint: it needs ${open.length} data layers, an image has at most ${limits.dataLayers}`,
    );
  const total = open.reduce((sum, layer) => sum + layer.dataBytes, 0);
  const finished = await reported(shared, { phase: 'hash', total }, onProgress, () =>
    pool.run(open.map((layer, ordinal) => ({ kind: 'finish', ...layer, ordinal }))),
  );
  throwIfAborted(signal);
  const layers: PackedLayer[] = [];
  for (const result of finished) {
    if (result.kind !== 'finished') continue;
    const path = join(scratchDir, `data-${String(layers.length).padStart(6, '0')}.tar`);
    made.add(path);
    await rename(result.path, path);
    layers.push({ path, digest: result.digest, size: result.size });
  }
  const files = collectFiles(plan, lanes);
  return {
    layers,
    files,
    fileBytes,
    decodedBytes: files.reduce((sum, file) => sum + file.chunks.decodedBytes(), 0),
    storedBytes: total,
  };
}

/** Joins the lanes' records to one table a file, in file order, and turns lane-local layers into ordinals. */
function collectFiles(
  plan: PackPlan,
  lanes: readonly Extract<WorkerResult, { kind: 'packed' }>[],
): PackedData['files'] {
  const parts: { offset: number; records: Uint8Array }[][] = plan.files.map(() => []);
  let firstLayer = 0;
  for (const { lane, layers, records, counts } of lanes) {
    const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
    for (let at = 0; at < records.length; at += CHUNK_RECORD_BYTES)
      view.setUint16(at + 28, view.getUint16(at + 28, true) + firstLayer, true);
    let at = 0;
    for (const [i, piece] of (plan.lanes[lane] ?? []).entries()) {
      const end = at + (counts[i] ?? 0) * CHUNK_RECORD_BYTES;
      parts[piece.file]?.push({ offset: piece.offset, records: records.subarray(at, end) });
      at = end;
    }
    firstLayer += layers.length;
  }
  return plan.files.map(({ name, size }, i) => {
    const own = (parts[i] ?? []).sort((a, b) => a.offset - b.offset).map((part) => part.records);
    return { name, size: BigInt(size), chunks: new ChunkTable(Buffer.concat(own)) };
  });
}

/**
 * Writes the index layer for packed data. `facts.layers.checkpoint` must count it and every data layer. Throws
 * resourceExhausted for a full disk.
 */
export async function packIndexLayer(
  scratchDir: string,
  packed: Pick<PackedData, 'layers' | 'files'>,
  facts: CheckpointFacts,
  {
    accessOrder = [],
    layerReads = [],
  }: { accessOrder?: readonly number[]; layerReads?: readonly LayerReads[] } = {},
): Promise<PackedIndex> {
  if (facts.layers.checkpoint !== packed.layers.length + 1)
    throw new CheckpointError(
      Code.internal,
      `checkpoint.json counts ${facts.layers.checkpoint} checkpoint layers, there are ${packed.layers.length + 1}`,
    );
  const json = Buffer.from(`${JSON.stringify(facts, null, 2)}\n`);
  const index = encodeIndex({
    dataLayers: packed.layers.map(({ digest, size }) => ({ digest, size: BigInt(size) })),
    files: packed.files,
    accessOrder,
    layerReads,
    checkpointJson: { offset: CHECKPOINT_JSON_OFFSET, length: json.length, digest: digestOf(json) },
  });
  const layer = buildIndexLayer(json, index);
  const path = join(scratchDir, 'index.tar');
  try {
    await writeFile(path, layer.bytes, { mode: 0o600 });
  } catch (cause) {
    await rm(path, { force: true });
    throw new CheckpointError(
      Code.resourceExhausted,
      'Cannot write the index of the checkpoint to the scratch directory; free space there or choose another directory',
      { cause, context: { path } },
    );
  }
  const location: IndexLocation = {
    blob: digestOf(layer.bytes),
    offset: layer.indexOffset,
    length: layer.indexLength,
    digest: digestOf(index),
  };
  return {
    path,
    digest: location.blob,
    size: layer.bytes.length,
    location,
    annotation: formatIndexAnnotation(location),
  };
}

/** The index of packed data whose checkpoint.json is not written yet. */
export function provisionalIndex({ layers, files }: Pick<PackedData, 'layers' | 'files'>): Uint8Array {
  return encodeIndex({
    dataLayers: layers.map(({ digest, size }) => ({ digest, size: BigInt(size) })),
    files,
    accessOrder: [],
    checkpointJson: { offset: CHECKPOINT_JSON_OFFSET, length: 1, digest: digestOf(Buffer.alloc(1)) },
  });
}

async function reported<T>(
  shared: SharedState,
  { phase, total }: Pick<PackProgress, 'phase' | 'total'>,
  onProgress: PackOptions['onProgress'],
  work: () => Promise<T>,
): Promise<T> {
  shared.reset();
  const tell = () => onProgress?.({ phase, done: Math.min(shared.done, total), total });
  const timer = onProgress ? setInterval(tell, PROGRESS_MS) : undefined;
  try {
    const result = await work();
    tell();
    return result;
  } finally {
    clearInterval(timer);
  }
}

async function removeOpenLayers(scratchDir: string): Promise<void> {
  for (const name of await readdir(scratchDir))
    if (isOpenLayerName(name)) await rm(join(scratchDir, name), { force: true });
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted)
    throw new CheckpointError(Code.canceled, 'Packing the checkpoint was canceled', { cause: signal.reason });
}
