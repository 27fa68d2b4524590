import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { dataLayerHead, dataLayerSize, dataLayerTail } from '../layer-layout.ts';
import { writeAll } from './lane-writer.ts';
import type { OpenLayer, SharedState, WorkerResult } from './protocol.ts';

const READ_BYTES = 1024 * 1024;

/**
 * Makes a tar of a lane's data: the header with the length, which is known only now, and the end. Then the digest of
 * the whole, which begins with that header and so needs another pass.
 */
export function finishLayer(
  { path, dataBytes }: OpenLayer,
  ordinal: number,
  shared: SharedState,
): WorkerResult {
  const size = dataLayerSize(dataBytes);
  const fd = openSync(path, 'r+');
  try {
    writeAll(fd, dataLayerHead(ordinal, dataBytes), 0);
    const tail = Buffer.alloc(dataLayerTail(dataBytes));
    writeAll(fd, tail, size - tail.length);
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    for (let done = 0; done < size; ) {
      if (shared.stopped) return { kind: 'canceled' };
      const count = readSync(fd, buffer, 0, Math.min(buffer.length, size - done), done);
      if (count === 0) throw new Error(`"${path}" became shorter while it was read`);
      hash.update(buffer.subarray(0, count));
      done += count;
      shared.add(count);
    }
    return { kind: 'finished', path, digest: `sha256:${hash.digest('hex')}`, size };
  } finally {
    closeSync(fd);
  }
}
