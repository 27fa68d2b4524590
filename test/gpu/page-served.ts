/** The page server on images that are all here. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CHUNK_RECORD_BYTES, ChunkTable } from '../../checkpoint/chunk-table.ts';
import { writePagemap } from '../../checkpoint/criu/pagemap.ts';
import { native } from '../../native/index.ts';
import { allBits } from '../../native/page-server/bits.ts';
import { LazyMemory } from '../../shim/restore/lazy/lazy-memory.ts';
import type { PreparedMemory } from '../../shim/restore/lazy/prepare.ts';
import { readMemoryPlan } from '../../shim/restore/lazy/read-images.ts';

const CHUNK = 512 << 10;

/** As prepareMemory plans it, for images that are all here: nothing is waited for, everything is copied. */
export async function pageServed(imagesDir: string, guardProgram: string): Promise<PreparedMemory> {
  let chunkCount = 0;
  const files = readdirSync(imagesDir)
    .filter((name) => /^pages-\d+\.img$/.test(name))
    .map((name) => {
      const { size } = statSync(join(imagesDir, name));
      const records = Buffer.alloc(Math.ceil(size / CHUNK) * CHUNK_RECORD_BYTES);
      for (let at = 0; at < size; at += CHUNK) {
        const record = (at / CHUNK) * CHUNK_RECORD_BYTES;
        records.writeBigUInt64LE(BigInt(at), record);
        records.writeUInt32LE(Math.min(CHUNK, size - at), record + 20);
      }
      const chunks = new ChunkTable(records);
      const file = { name, size: BigInt(size), chunks, firstOrdinal: chunkCount };
      chunkCount += chunks.count;
      return file;
    });
  const checkpointJson = { offset: 0, length: 0, digest: '' };
  const index = {
    dataLayers: [],
    files,
    accessOrder: [],
    layerReads: [],
    checkpointJson,
    chunkCount,
  };
  const plan = await readMemoryPlan(imagesDir, index);
  if (!plan) throw new Error('the memory of the checkpoint cannot be served');
  const here = {
    usable: true,
    want: async () => {},
    presence: async () => ({ bits: allBits(chunkCount), chunks: chunkCount, complete: true }),
    close: () => {},
  };
  const deps = { calls: native, guardProgram, daemon: { connect: async () => here } };
  return {
    images: new Map([...plan.pagemaps].map(([name, pagemap]) => [name, writePagemap(pagemap)])),
    start: (workDir, cgroups, spawner, log) =>
      LazyMemory.start(
        workDir,
        { id: 'gpu', imagesDir, index, plan, relocate: async () => {}, cgroups },
        { ...deps, spawner, log },
      ),
  };
}
