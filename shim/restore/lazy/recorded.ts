/**
 * A restore of images that are all on this node, for whoever wants to know in which order their memory is touched: nothing
 * is copied but what is asked for.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writePagemap } from '../../../checkpoint/criu/pagemap.ts';
import { digestOf } from '../../../checkpoint/digest.ts';
import { decodeIndex } from '../../../checkpoint/index-format.ts';
import { formatOrder, TRIAL_INDEX_FILE, TRIAL_ORDER_FILE } from '../../../checkpoint/trial-files.ts';
import { allBits } from '../../../native/page-server/bits.ts';
import type { DaemonConnection } from '../daemon.ts';
import { LazyMemory, type LazyMemoryDeps } from './lazy-memory.ts';
import { imageOrdinals } from './memory-plan.ts';
import { hasUserfaultfd, type PreparedMemory } from './prepare.ts';
import { readMemoryPlan } from './read-images.ts';

export type RecordedDeps = Pick<LazyMemoryDeps, 'calls' | 'guardProgram'>;

/** Undefined if none of the memory can come later; then what CRIU reads is all there is to know. */
export async function prepareRecorded(
  imagesDir: string,
  workDir: string,
  deps: RecordedDeps,
): Promise<PreparedMemory | undefined> {
  const bytes = await readFile(join(workDir, TRIAL_INDEX_FILE));
  const index = decodeIndex(bytes);
  const plan = await readMemoryPlan(imagesDir, index);
  const before = [...imageOrdinals(index), ...(plan?.eager ?? [])];
  const record = async (touched: Iterable<number>) => {
    // A chunk may have pages that CRIU reads and pages that come later.
    const order = new Set([...before, ...touched]);
    await writeFile(join(workDir, TRIAL_ORDER_FILE), formatOrder(order), { mode: 0o600 });
  };
  if (!hasUserfaultfd() || !plan || plan.lazyBytes === 0n) {
    await record([]);
    return undefined;
  }
  const here: DaemonConnection = {
    usable: true,
    want: async () => {},
    presence: async () => ({ bits: allBits(index.chunkCount), chunks: index.chunkCount, complete: true }),
    close: () => {},
  };
  const daemon = { connect: async () => here };
  return {
    images: new Map([...plan.pagemaps].map(([name, pagemap]) => [name, writePagemap(pagemap)])),
    start: (criuWorkDir, cgroups, spawner, log) =>
      LazyMemory.start(
        criuWorkDir,
        { id: digestOf(bytes), imagesDir, index, plan, relocate: async () => {}, cgroups, record },
        { ...deps, daemon, spawner, log },
      ),
  };
}
