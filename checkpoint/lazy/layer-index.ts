/** The index of one lazy base layer. Wire format: proto/thaw/image/v1/index.proto; limits: docs/image-format.md. */
import { promisify } from 'node:util';
import { constants, zstdDecompress } from 'node:zlib';
import { thaw } from '../../proto/gen/image.js';
import { Code } from '../../proto/status.ts';
import { ChunkTable } from '../chunk-table.ts';
import { isDigest } from '../digest.ts';
import { CheckpointError } from '../error.ts';
import { type ChunkIndex, checkAccessOrder } from '../index-format.ts';
import { fromBigInt, type Int64, toBigInt } from '../int64.ts';
import { limits } from '../limits.ts';

export const LAYER_INDEX_VERSION = 1;
/** Name of the one file of a layer, in a node's cache: its tar. */
export const TAR_FILE = 'tar';

export interface LayerIndex extends ChunkIndex {
  /** Of the tar. */
  diffId: string;
  /** Decoded length of every frame but the last. */
  frameBytes: number;
  /** EROFS image, as one zstd frame; and its decoded size. */
  metadata: Uint8Array;
  metadataSize: number;
}

export interface NewLayerIndex {
  blob: string;
  blobSize: number;
  diffId: string;
  /** Bytes of the tar. */
  size: number;
  frameBytes: number;
  frames: ChunkTable;
  accessOrder: readonly number[];
  metadata: Uint8Array;
  metadataSize: number;
}

/** Encodes, and checks the result as a reader would. */
export function encodeLayerIndex(index: NewLayerIndex): Uint8Array {
  const wire = (value: number) => fromBigInt(BigInt(value)) as never;
  const bytes = thaw.image.v1.LayerIndex.encode({
    version: LAYER_INDEX_VERSION,
    blob: index.blob,
    blobSize: wire(index.blobSize),
    diffId: index.diffId,
    size: wire(index.size),
    frameBytes: index.frameBytes,
    frames: index.frames.bytes,
    accessOrder: [...index.accessOrder],
    metadata: index.metadata,
    metadataSize: wire(index.metadataSize),
  }).finish();
  decodeLayerIndex(bytes);
  return bytes;
}

/** Checks everything that the format promises. Keeps views of `bytes`. Throws as decodeIndex does. */
export function decodeLayerIndex(bytes: Uint8Array): LayerIndex {
  if (bytes.byteLength > limits.indexBytes) throw broken(`it has ${bytes.byteLength} bytes`);
  const message = parse(bytes);
  if (message.version !== LAYER_INDEX_VERSION)
    throw new CheckpointError(
      Code.invalidArgument,
      `Cannot read the index of the layer: its format version is ${message.version}, known here is ${LAYER_INDEX_VERSION}; use a newer thaw on this node`,
      { context: { version: message.version } },
    );
  const blobSize = size(message.blobSize as Int64, limits.fileBytes, 'its layer is too large');
  const tarBytes = size(message.size as Int64, limits.fileBytes, 'its tar is too large');
  const metadataSize = size(
    message.metadataSize as Int64,
    limits.metadataBytes,
    'its metadata are too large',
  );
  if (!isDigest(message.blob) || !isDigest(message.diffId)) throw broken('it has no valid digest');
  const frames = new ChunkTable(message.frames, 'zstd');
  checkFrames(frames, { tarBytes, blobSize, frameBytes: message.frameBytes });
  checkAccessOrder(message.accessOrder, frames.count);
  return {
    dataLayers: [{ digest: message.blob, size: BigInt(blobSize) }],
    files: [{ name: TAR_FILE, size: BigInt(tarBytes), chunks: frames, firstOrdinal: 0 }],
    accessOrder: message.accessOrder,
    chunkCount: frames.count,
    diffId: message.diffId,
    frameBytes: message.frameBytes,
    metadata: message.metadata,
    metadataSize,
  };
}

/** The EROFS image. DATA_LOSS if it is not what the index says of it. */
export async function layerMetadata({ metadata, metadataSize }: LayerIndex): Promise<Buffer> {
  let image: Buffer | undefined;
  try {
    image = await promisify(zstdDecompress)(metadata, {
      // One more, so that a longer one is seen and not cut off.
      maxOutputLength: metadataSize + 1,
      params: { [constants.ZSTD_d_windowLogMax]: 27 },
    });
  } catch (cause) {
    throw broken('its metadata are no zstd frame of their size', cause);
  }
  if (image.length !== metadataSize) throw broken('its metadata are no zstd frame of their size');
  return image;
}

/** zstd adds less than this to what it cannot compress (ZSTD_COMPRESSBOUND for up to 1 MiB). */
export function longestFrame(decoded: number): number {
  return decoded + (decoded >> 8) + 128;
}

function checkFrames(
  frames: ChunkTable,
  { tarBytes, blobSize, frameBytes }: { tarBytes: number; blobSize: number; frameBytes: number },
): void {
  const wrong = frames.check({
    fileSize: tarBytes,
    layerEnds: [blobSize],
    layerStart: 0,
    longestStored: longestFrame,
    codecs: false,
  });
  if (wrong !== undefined) throw broken(`of its frames, ${wrong.replaceAll('chunk', 'frame')}`);
  if (frameBytes < 1 || frames.count !== Math.ceil(tarBytes / frameBytes))
    throw broken('its frames do not make up its tar');
  // A frame's place follows from its number, so that a reader finds it without a search.
  for (let i = 0; i < frames.count; i++) {
    const start = i * frameBytes;
    if (
      Number(frames.fileOffset(i)) !== start ||
      frames.decodedLength(i) !== Math.min(frameBytes, tarBytes - start)
    )
      throw broken(`frame ${i} is not where it should be`);
  }
}

function parse(bytes: Uint8Array): thaw.image.v1.LayerIndex {
  try {
    return thaw.image.v1.LayerIndex.decode(bytes);
  } catch (cause) {
    throw broken('it is no valid protobuf message', cause);
  }
}

function size(value: Int64, most: number, otherwise: string): number {
  const bytes = toBigInt(value);
  if (bytes < 1n || bytes > BigInt(most)) throw broken(otherwise);
  return Number(bytes);
}

function broken(why: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    Code.dataLoss,
    `Cannot read the index of the layer: ${why}`,
    cause === undefined ? {} : { cause },
  );
}
