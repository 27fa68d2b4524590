/**
 * The cheap look for a checkpoint, done for every container: at most two files beside or in the bottom layer, because
 * checkpoint layers are the lowest of their image.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { RestoreError } from './error.ts';

/** checkpoint.json holds facts, not data; its environment and layer lists stay far below this. */
const MAX_MARKER_BYTES = 4 << 20;

/** A remote snapshot says so beside its empty directory; an image unpacked as ordinary files, inside it. */
function markerPlaces(bottomDir: string): string[] {
  return [join(bottomDir, '../checkpoint.json'), join(bottomDir, '.thaw/checkpoint.json')];
}

/** Bytes of checkpoint.json; undefined if there is no checkpoint below. Not asynchronous: mount(2) is to look there next. */
export function findMarker(bottomDir: string): Uint8Array | undefined {
  for (const place of markerPlaces(bottomDir)) {
    const bytes = readSmall(place);
    if (bytes) return bytes;
  }
  return undefined;
}

/**
 * The lower directories without the checkpoint layers at the bottom, told by what lies in or beside them: for a start
 * where checkpoint.json cannot be believed. A checkpoint is never visible inside a container.
 */
export async function withoutCheckpointLayers(lowerDirs: readonly string[]): Promise<string[]> {
  let end = lowerDirs.length;
  for (const dir of lowerDirs.toReversed()) {
    const places = [join(dir, '../checkpoint.json'), join(dir, '.thaw')];
    const found = await Promise.all(
      places.map((place) =>
        lstat(place).then(
          () => true,
          () => false,
        ),
      ),
    );
    if (!found.includes(true)) break;
    end -= 1;
  }
  // An image of nothing but checkpoint layers: an overlay needs one lower directory.
  return lowerDirs.slice(0, Math.max(end, 1));
}

function readSmall(file: string): Uint8Array | undefined {
  let fd: number;
  try {
    // The layer is somebody else's content: no link is followed at its end, no fifo or device waited for.
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO'].includes(code)) return undefined;
    throw error;
  }
  try {
    const info = fstatSync(fd);
    if (!info.isFile()) return undefined;
    if (info.size > MAX_MARKER_BYTES) {
      throw new RestoreError(
        Code.dataLoss,
        `The checkpoint's facts have ${info.size} bytes, at most ${MAX_MARKER_BYTES} are read; push the checkpoint image again`,
        { context: { file } },
      );
    }
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
