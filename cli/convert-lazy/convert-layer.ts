/** One layer: from its tar on disk to the blob of a lazy layer and its index. */
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import { erofsImage } from '../../checkpoint/lazy/erofs-image.ts';
import { encodeLayerIndex } from '../../checkpoint/lazy/layer-index.ts';
import { type LayerTree, layerTree } from '../../checkpoint/lazy/layer-tree.ts';
import type { MergedDirectories } from '../../checkpoint/lazy/merged-directories.ts';
import { readTar } from '../../checkpoint/lazy/tar-reader.ts';
import { FRAME_BYTES, writeFrames } from '../../checkpoint/lazy/write-frames.ts';

const METADATA_LEVEL = 19;
/** Headers of small members lie close together. */
const WINDOW_BYTES = 128 * 1024;

export interface TarFile {
  path: string;
  bytes: number;
  diffId: string;
  /** Frames that come first on nodes; those that it does not have are passed over. */
  order: readonly number[];
}

export interface LazyLayer {
  tree: LayerTree;
  index: Uint8Array;
  /** Of the blob. */
  digest: string;
  size: number;
}

/** Writes the blob to `path`. INVALID_ARGUMENT for a layer that must stay as it is. */
export async function convertLayer(
  tar: TarFile,
  below: MergedDirectories,
  path: string,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
): Promise<LazyLayer> {
  const input = await open(tar.path, 'r');
  const blob = await open(path, 'wx', 0o600);
  try {
    const read = windowed(async (offset, length) => {
      const buffer = Buffer.allocUnsafe(length);
      const { bytesRead } = await input.read(buffer, 0, length, offset);
      return buffer.subarray(0, bytesRead);
    });
    const tree = await layerTree(readTar(read), (directory) => below.find(directory));
    const metadata = erofsImage(tree, tar.bytes, tar.diffId);
    const { frames, digest, size } = await writeFrames({
      tar: input,
      tarBytes: tar.bytes,
      blob,
      signal,
      onProgress,
    });
    const index = encodeLayerIndex({
      blob: digest,
      blobSize: size,
      diffId: tar.diffId,
      size: tar.bytes,
      frameBytes: FRAME_BYTES,
      frames,
      accessOrder: [...new Set(tar.order)].filter((frame) => frame < frames.count),
      metadata: await promisify(zstdCompress)(metadata, {
        params: { [constants.ZSTD_c_compressionLevel]: METADATA_LEVEL },
      }),
      metadataSize: metadata.length,
    });
    return { tree, index, digest, size };
  } finally {
    await input.close();
    await blob.close();
  }
}

type Read = (offset: number, length: number) => Promise<Buffer>;

/** One read for many small ones that follow each other. */
function windowed(read: Read): Read {
  let start = 0;
  let window: Buffer = Buffer.alloc(0);
  return async (offset, length) => {
    if (offset < start || offset + length > start + window.length) {
      start = offset;
      window = await read(offset, Math.max(length, WINDOW_BYTES));
    }
    return window.subarray(offset - start, offset - start + length);
  };
}
