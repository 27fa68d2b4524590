/**
 * Where things lie in the tars of a checkpoint: docs/image-format.md, "Index layer" and "Data layer". The positions
 * are fixed by the format, so a reader of ranges never parses a tar.
 */
import { Code } from '../proto/status.ts';
import { CheckpointError } from './error.ts';
import { limits } from './limits.ts';
import { padded, TAR_BLOCK, TAR_END_BYTES, tarHeader } from './tar-header.ts';

/** Media type of every checkpoint layer. */
export const CHECKPOINT_LAYER_MEDIA_TYPE = 'application/vnd.oci.image.layer.v1.tar';

/** Directory of all entries, and their names in it. */
export const THAW_DIRECTORY = '.thaw';
export const CHECKPOINT_JSON_NAME = 'checkpoint.json';
export const INDEX_NAME = 'index';

/** First byte of chunk data in a data layer: behind the headers of the directory and of the one file. */
export const DATA_START = 2 * TAR_BLOCK;

/** Name of a data layer's file below THAW_DIRECTORY. `ordinal` is the layer's place in the index's list. */
export function dataFileName(ordinal: number): string {
  return `chunks-${String(ordinal).padStart(6, '0')}`;
}

function directoryHeader(): Buffer {
  return tarHeader({ name: `${THAW_DIRECTORY}/`, type: 'directory', mode: 0o700, size: 0 });
}

function fileHeader(name: string, size: number): Buffer {
  return tarHeader({ name: `${THAW_DIRECTORY}/${name}`, type: 'file', mode: 0o600, size });
}

/** The first DATA_START bytes of a data layer with `dataBytes` bytes of chunks. */
export function dataLayerHead(ordinal: number, dataBytes: number): Buffer {
  return Buffer.concat([directoryHeader(), fileHeader(dataFileName(ordinal), dataBytes)]);
}

/** Zero bytes that follow `dataBytes` bytes of chunks: padding and the archive's end. */
export function dataLayerTail(dataBytes: number): number {
  return padded(dataBytes) - dataBytes + TAR_END_BYTES;
}

/** Bytes of a data layer's blob. */
export function dataLayerSize(dataBytes: number): number {
  return DATA_START + dataBytes + dataLayerTail(dataBytes);
}

/** First byte behind the chunk data (and its padding) of a data layer's blob; undefined if no such blob has this size. */
export function dataLayerEnd(size: number): number | undefined {
  const end = size - TAR_END_BYTES;
  if (!Number.isSafeInteger(size) || size % TAR_BLOCK !== 0) return undefined;
  if (end < DATA_START || end > DATA_START + limits.dataLayerBytes) return undefined;
  return end;
}

export interface IndexLayer {
  /** The whole tar. */
  bytes: Buffer;
  /** Offset of the index in it. */
  indexOffset: number;
  indexLength: number;
}

/** Offset of checkpoint.json in the index layer: it is the first file, so its place does not depend on its length. */
export const CHECKPOINT_JSON_OFFSET = 2 * TAR_BLOCK;

/** Builds the index layer's tar. Throws resourceExhausted if one of the two is larger than the format allows. */
export function buildIndexLayer(checkpointJson: Uint8Array, index: Uint8Array): IndexLayer {
  if (checkpointJson.byteLength > limits.checkpointJsonBytes || index.byteLength > limits.indexBytes)
    throw new CheckpointError(
      Code.resourceExhausted,
      'Cannot make the checkpoint image: the checkpoint is too large for one index',
      { context: { checkpointJsonBytes: checkpointJson.byteLength, indexBytes: index.byteLength } },
    );
  const indexOffset = CHECKPOINT_JSON_OFFSET + padded(checkpointJson.byteLength) + TAR_BLOCK;
  const bytes = Buffer.alloc(indexOffset + padded(index.byteLength) + TAR_END_BYTES);
  directoryHeader().copy(bytes, 0);
  fileHeader(CHECKPOINT_JSON_NAME, checkpointJson.byteLength).copy(bytes, TAR_BLOCK);
  bytes.set(checkpointJson, CHECKPOINT_JSON_OFFSET);
  fileHeader(INDEX_NAME, index.byteLength).copy(bytes, indexOffset - TAR_BLOCK);
  bytes.set(index, indexOffset);
  return { bytes, indexOffset, indexLength: index.byteLength };
}
