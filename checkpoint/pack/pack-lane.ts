import { hash } from 'node:crypto';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { encodeChunk } from './encode-chunk.ts';
import { LaneWriter } from './lane-writer.ts';
import type { Piece } from './plan.ts';
import type { SharedState, WorkerResult, WorkerSetup } from './protocol.ts';
import { trimZeroPages } from './zero-pages.ts';

/** Packs a lane's pieces. Holds one chunk in memory. */
export function packLane(
  setup: WorkerSetup,
  lane: number,
  pieces: readonly Piece[],
  shared: SharedState,
): WorkerResult {
  const writer = new LaneWriter(setup.scratchDir, lane, setup.layerBytes);
  const slot = Buffer.allocUnsafeSlow(setup.chunkBytes);
  const counts = new Uint32Array(pieces.length);
  try {
    for (const [i, piece] of pieces.entries()) {
      const before = writer.count;
      if (!packPiece(setup, piece, slot, writer, shared)) return { kind: 'canceled' };
      counts[i] = writer.count - before;
    }
    writer.ensureLayer();
  } finally {
    writer.close();
  }
  return { kind: 'packed', lane, layers: writer.layers, records: writer.records(), counts };
}

/** False if it was stopped. */
function packPiece(
  setup: WorkerSetup,
  { file, offset, length }: Piece,
  slot: Buffer,
  writer: LaneWriter,
  shared: SharedState,
): boolean {
  const name = setup.names[file] ?? '';
  const fd = openSync(
    join(setup.imagesDir, name),
    constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
  );
  try {
    for (let done = 0; done < length; done += slot.length) {
      if (shared.stopped) return false;
      const part = slot.subarray(0, Math.min(slot.length, length - done));
      readAll(fd, part, offset + done, name);
      const kept = trimZeroPages(part);
      if (kept) {
        const [from, to] = kept;
        const decoded = part.subarray(from, to);
        const { stored, codec } = encodeChunk(decoded);
        writer.append(stored, {
          fileOffset: BigInt(offset + done + from),
          decodedLength: decoded.length,
          crc32: crc32(decoded),
          codec,
          digest: hash('sha256', stored, 'buffer'),
        });
      }
      shared.add(part.length);
    }
  } finally {
    closeSync(fd);
  }
  return true;
}

function readAll(fd: number, target: Buffer, position: number, name: string): void {
  for (let done = 0; done < target.length; ) {
    const count = readSync(fd, target, done, target.length - done, position + done);
    if (count === 0) throw new Error(`"${name}" became shorter while it was read`);
    done += count;
  }
}
