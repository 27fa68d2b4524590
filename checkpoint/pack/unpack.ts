import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import type { CheckpointIndex, IndexFile } from '../index-format.ts';
import { decodeChunk } from './decode-chunk.ts';
import type { LayerSource } from './layer-source.ts';

export interface UnpackOptions {
  signal?: AbortSignal | undefined;
  /** Decoded bytes so far and in all. */
  onProgress?: (done: number, total: number) => void;
}

/** Checks every chunk of a checkpoint. Throws dataLoss that names the file of the first bad one. */
export async function verifyChunks(
  index: CheckpointIndex,
  source: LayerSource,
  options: UnpackOptions = {},
): Promise<void> {
  const progress = counter(index, options);
  for (const file of index.files)
    for await (const { bytes } of chunksOf(file, source, options.signal)) progress(bytes.length);
}

/**
 * Writes every file of a checkpoint into `targetDir`, which must not exist or be empty; zeros become holes. Verifies
 * all bytes. On failure the files it made are removed.
 */
export async function unpack(
  index: CheckpointIndex,
  source: LayerSource,
  targetDir: string,
  options: UnpackOptions = {},
): Promise<void> {
  const progress = counter(index, options);
  await mkdir(targetDir, { recursive: true, mode: 0o700 });
  const made: string[] = [];
  try {
    for (const file of index.files) {
      const path = join(targetDir, file.name);
      const handle = await open(path, 'wx', 0o600);
      made.push(path);
      try {
        await handle.truncate(Number(file.size));
        for await (const { bytes, offset } of chunksOf(file, source, options.signal)) {
          for (let done = 0; done < bytes.length; ) {
            const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done);
            done += bytesWritten;
          }
          progress(bytes.length);
        }
      } finally {
        await handle.close();
      }
    }
  } catch (error) {
    for (const path of made) await rm(path, { force: true });
    throw error;
  }
}

async function* chunksOf(
  file: IndexFile,
  source: LayerSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<{ bytes: Uint8Array; offset: number }> {
  for (let i = 0; i < file.chunks.count; i++) {
    if (signal?.aborted) throw new CheckpointError(Code.canceled, 'Reading the checkpoint was canceled');
    const chunk = file.chunks.chunk(i);
    const stored = await source.read(chunk.layer, Number(chunk.layerOffset), chunk.storedLength);
    let bytes: Uint8Array;
    try {
      bytes = decodeChunk(stored, chunk);
    } catch (cause) {
      if (!(cause instanceof CheckpointError)) throw cause;
      throw new CheckpointError(cause.code, `${cause.message} (file "${file.name}", chunk ${i})`, { cause });
    }
    yield { bytes, offset: Number(chunk.fileOffset) };
  }
}

function counter(index: CheckpointIndex, { onProgress }: UnpackOptions): (bytes: number) => void {
  if (!onProgress) return () => {};
  const total = index.files.reduce((sum, file) => sum + file.chunks.decodedBytes(), 0);
  let done = 0;
  return (bytes) => {
    done += bytes;
    onProgress(done, total);
  };
}
