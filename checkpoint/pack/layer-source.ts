import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { DATA_START, dataFileName, THAW_DIRECTORY } from '../layer-layout.ts';

/** Stored bytes of a checkpoint's data layers. Offsets are those of the layer's blob. close() when done. */
export interface LayerSource {
  /** Exactly `length` bytes, or dataLoss. */
  read(layer: number, offset: number, length: number): Promise<Buffer>;
  close(): Promise<void>;
}

/** Data layers as tar files, in the order of the index. */
export async function openTarLayers(paths: readonly string[]): Promise<LayerSource> {
  return openAll(
    paths.map((path) => () => openRegular(path)),
    0,
  );
}

/**
 * Data layers that were unpacked as ordinary files: `<directory>/.thaw/chunks-<ordinal>`, one directory a layer, or the
 * same one for all. Links are not followed below the directories.
 */
export async function openUnpackedLayers(directories: readonly string[]): Promise<LayerSource> {
  return openAll(
    directories.map((directory, ordinal) => async () => {
      const thaw = await open(
        `${directory}/${THAW_DIRECTORY}`,
        constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
      );
      try {
        // Through the descriptor, so that nobody can put a link in the directory's place meanwhile.
        return await openRegular(`/proc/self/fd/${thaw.fd}/${dataFileName(ordinal)}`);
      } finally {
        await thaw.close();
      }
    }),
    DATA_START,
  );
}

/** Throws dataLoss unless a layer's file has the size and digest given. */
export async function verifyLayerFile(
  path: string,
  expected: { digest: string; size: bigint | number },
  signal?: AbortSignal,
): Promise<void> {
  const file = await openRegular(path);
  try {
    const { size } = await file.stat();
    if (BigInt(size) !== BigInt(expected.size)) throw damaged(`it has ${size} bytes`, path);
    const hash = createHash('sha256');
    const stream = file.createReadStream({
      autoClose: false,
      highWaterMark: 1 << 20,
      ...(signal && { signal }),
    });
    for await (const part of stream) hash.update(part as Buffer);
    if (`sha256:${hash.digest('hex')}` !== expected.digest)
      throw damaged('its bytes do not have the digest they should have', path);
  } finally {
    await file.close();
  }
}

async function openAll(openers: readonly (() => Promise<FileHandle>)[], start: number): Promise<LayerSource> {
  const files: FileHandle[] = [];
  const close = async () => {
    for (const file of files.splice(0)) await file.close();
  };
  try {
    for (const opener of openers) files.push(await opener());
  } catch (error) {
    await close();
    throw error;
  }
  return {
    close,
    async read(layer, offset, length) {
      const file = files[layer];
      if (!file) throw damaged(`there is no data layer ${layer}`);
      const target = Buffer.allocUnsafe(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await file.read(target, done, length - done, offset - start + done);
        if (bytesRead === 0) throw damaged(`data layer ${layer} is cut off`);
        done += bytesRead;
      }
      return target;
    },
  };
}

async function openRegular(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw damaged('it is no regular file', path);
}

function damaged(why: string, path?: string): CheckpointError {
  return new CheckpointError(Code.dataLoss, `Cannot read a data layer of the checkpoint: ${why}`, {
    context: { path },
  });
}
