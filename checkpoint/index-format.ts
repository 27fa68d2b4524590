/**
 * The index of a checkpoint: which bytes of which data layer make up which checkpoint file. Wire format:
 * proto/thaw/image/v1/index.proto; meaning and limits: docs/image-format.md.
 */
import { thaw } from '../proto/gen/image.js';
import { Code } from '../proto/status.ts';
import type { IndexLocation } from './annotation.ts';
import { type ChunkBounds, ChunkTable } from './chunk-table.ts';
import { digestOf, isDigest } from './digest.ts';
import { CheckpointError } from './error.ts';
import { isFileName } from './file-name.ts';
import { fromBigInt, type Int64, toBigInt } from './int64.ts';
import { CHECKPOINT_JSON_OFFSET, DATA_START, dataLayerEnd } from './layer-layout.ts';
import { limits } from './limits.ts';

/**
 * The newest version of the index that this code reads. 2 has records that name a codec; what has none is written as 1, so
 * that older nodes read it too.
 */
export const INDEX_VERSION = 2;

export interface DataLayer {
  /** Blob digest and diff ID at once, "sha256:…". */
  digest: string;
  /** Bytes of the tar. */
  size: bigint;
}

export interface IndexFile {
  name: string;
  /** Bytes. */
  size: bigint;
  chunks: ChunkTable;
  /** Ordinal of this file's first chunk, counted over all files in order. */
  firstOrdinal: number;
}

/** A range of the index layer's blob. */
export interface BlobRange {
  offset: number;
  length: number;
  digest: string;
}

/** Files in chunks of layers' blobs: what fetching and keeping them needs. */
export interface ChunkIndex {
  dataLayers: DataLayer[];
  files: IndexFile[];
  /** Ordinals of chunks in the order in which they were first used. Empty: never recorded. */
  accessOrder: readonly number[];
  /** Chunks of all files. */
  chunkCount: number;
}

export interface CheckpointIndex extends ChunkIndex {
  checkpointJson: BlobRange;
  /** What a restore read of lazy base layers. */
  layerReads: readonly LayerReads[];
}

/** Frames of a lazy layer in the order in which they were first read. Whether it has them only its own index knows. */
export interface LayerReads {
  /** Digest of the layer's index. */
  layer: string;
  frames: readonly number[];
}

/** What encodeIndex takes: ordinals follow from the order of the files. */
export type NewIndex = Omit<CheckpointIndex, 'chunkCount' | 'files' | 'layerReads'> & {
  files: readonly Omit<IndexFile, 'firstOrdinal'>[];
  layerReads?: readonly LayerReads[];
};

/** Encodes, and checks the result as a reader would: throws what decodeIndex throws. */
export function encodeIndex(index: NewIndex): Uint8Array {
  const bytes = thaw.image.v1.Index.encode({
    version: index.files.some(({ chunks }) => chunks.namesCodecs) ? 2 : 1,
    dataLayers: index.dataLayers.map((layer) => ({ digest: layer.digest, size: wire(layer.size) })),
    files: index.files.map((file) => ({
      name: file.name,
      size: wire(file.size),
      chunks: file.chunks.bytes,
    })),
    accessOrder: [...index.accessOrder],
    checkpointJson: {
      offset: index.checkpointJson.offset,
      length: index.checkpointJson.length,
      digest: index.checkpointJson.digest,
    },
    layerReads: (index.layerReads ?? []).map(({ layer, frames }) => ({ layer, frames: [...frames] })),
  }).finish();
  decodeIndex(bytes);
  return bytes;
}

/** The index as bound by the annotation: its length and digest are checked before a byte is interpreted. */
export function openIndex(bytes: Uint8Array, location: IndexLocation): CheckpointIndex {
  if (bytes.byteLength !== location.length || digestOf(bytes) !== location.digest)
    throw new CheckpointError(
      Code.dataLoss,
      'Cannot trust the index of the checkpoint: its bytes are not those that the image names',
      { context: { digest: location.digest, bytes: bytes.byteLength, expected: location.length } },
    );
  return decodeIndex(bytes);
}

/**
 * Decodes and checks everything that the format promises, so that users of the result need no checks of their own.
 * Keeps views of `bytes`. Throws invalidArgument for an unknown version, dataLoss for anything broken.
 */
export function decodeIndex(bytes: Uint8Array): CheckpointIndex {
  if (bytes.byteLength > limits.indexBytes) throw broken(`it has ${bytes.byteLength} bytes`);
  const message = parse(bytes);
  if (message.version < 1 || message.version > INDEX_VERSION)
    throw new CheckpointError(
      Code.invalidArgument,
      `Cannot read the index: its format version is ${message.version}, known here are 1 to ${INDEX_VERSION}; use a newer thaw on this node`,
      { context: { version: message.version } },
    );
  const dataLayers = message.dataLayers.map((layer) => ({
    digest: layer.digest ?? '',
    size: toBigInt(layer.size as Int64),
  }));
  const layerEnds = checkDataLayers(dataLayers);
  const files = readFiles(message.files, { layerEnds, layerStart: DATA_START, codecs: message.version >= 2 });
  const chunkCount = files.reduce((sum, file) => sum + file.chunks.count, 0);
  checkAccessOrder(message.accessOrder, chunkCount);
  return {
    dataLayers,
    files,
    accessOrder: message.accessOrder,
    checkpointJson: readCheckpointJsonRange(message.checkpointJson),
    layerReads: readLayerReads(message.layerReads),
    chunkCount,
  };
}

function parse(bytes: Uint8Array): thaw.image.v1.Index {
  try {
    return thaw.image.v1.Index.decode(bytes);
  } catch (cause) {
    throw broken('it is no valid protobuf message', cause);
  }
}

function checkDataLayers(layers: readonly DataLayer[]): number[] {
  if (layers.length === 0 || layers.length > limits.dataLayers) throw broken(`${layers.length} data layers`);
  return layers.map((layer, i) => {
    if (!isDigest(layer.digest)) throw broken(`data layer ${i} has no valid digest`);
    const end = dataLayerEnd(Number(layer.size));
    if (end === undefined) throw broken(`data layer ${i} cannot have ${layer.size} bytes`);
    return end;
  });
}

function readFiles(
  messages: readonly thaw.image.v1.File.$Properties[],
  bounds: Omit<ChunkBounds, 'fileSize'>,
): IndexFile[] {
  if (messages.length > limits.files) throw broken(`it lists ${messages.length} files`);
  const names = new Set<string>();
  let firstOrdinal = 0;
  let total = 0n;
  return messages.map((message) => {
    const name = message.name ?? '';
    if (!isFileName(name)) throw broken(`${JSON.stringify(name.slice(0, 60))} cannot be a file's name`);
    if (names.has(name)) throw broken(`file "${name}" is listed twice`);
    names.add(name);
    const size = toBigInt(message.size as Int64);
    total += size;
    if (total > BigInt(limits.fileBytes)) throw broken(`file "${name}" is too large`);
    const chunks = new ChunkTable(message.chunks ?? new Uint8Array());
    const wrong = chunks.check({ fileSize: Number(size), ...bounds });
    if (wrong !== undefined) throw broken(`in file "${name}", ${wrong}`);
    const file: IndexFile = { name, size, chunks, firstOrdinal };
    firstOrdinal += chunks.count;
    return file;
  });
}

function readLayerReads(messages: readonly thaw.image.v1.LayerReads.$Properties[]): LayerReads[] {
  if (messages.length > limits.lazyLayers) throw broken(`it has reads of ${messages.length} layers`);
  return messages.map((message) => {
    const layer = message.layer ?? '';
    if (!isDigest(layer)) throw broken('a layer that was read has no valid digest');
    return { layer, frames: message.frames ?? [] };
  });
}

export function checkAccessOrder(order: readonly number[], chunkCount: number): void {
  if (order.length > chunkCount) throw broken('its access order lists more chunks than there are');
  const seen = new Uint8Array(chunkCount);
  for (const ordinal of order) {
    if (ordinal >= chunkCount) throw broken(`its access order names chunk ${ordinal}, which does not exist`);
    if (seen[ordinal] === 1) throw broken(`its access order names chunk ${ordinal} twice`);
    seen[ordinal] = 1;
  }
}

function readCheckpointJsonRange(blob: thaw.image.v1.Blob.$Properties | null | undefined): BlobRange {
  if (!blob) throw broken('it does not name checkpoint.json');
  const offset = Number(toBigInt(blob.offset as Int64));
  const length = Number(toBigInt(blob.length as Int64));
  const digest = blob.digest ?? '';
  if (!isDigest(digest)) throw broken('checkpoint.json has no valid digest');
  if (offset !== CHECKPOINT_JSON_OFFSET || length === 0 || length > limits.checkpointJsonBytes)
    throw broken('checkpoint.json lies at an impossible place');
  return { offset, length, digest };
}

function wire(value: bigint): never {
  // The generated types say "number | Long" with a type that only CommonJS code can name.
  return fromBigInt(value) as never;
}

function broken(why: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    Code.dataLoss,
    `Cannot read the index of the checkpoint: ${why}`,
    cause === undefined ? {} : { cause },
  );
}
