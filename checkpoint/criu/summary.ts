import { setImmediate } from 'node:timers/promises';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import type { CheckpointFacts } from '../facts.ts';
import { broken } from './framing.ts';
import { ImageDir } from './image-dir.ts';
import { readInventory } from './inventory.ts';
import { type DumpedMount, readMountpoints } from './mountpoints.ts';
import { PAGE_BYTES, PageFlag, readPagemap } from './pagemap.ts';
import { type DumpedTask, readCore, readPstree } from './tasks.ts';

/** What `checkpoint.json` and `thaw inspect` say about a dump. */
export interface DumpSummary {
  processes: CheckpointFacts['processes'];
  /** Bytes of memory that a restore brings back: pages of processes and of shared memory. */
  memoryBytes: number;
  /** Mounts that the restore must be given, by key. */
  externalMounts: { key: string; mountpoint: string }[];
  /** CRIU plugins that the restore needs. */
  plugins: readonly string[];
}

const MAX_SMALL_BYTES = 4 * 1024 * 1024;

/** Reads a directory of CRIU images. Throws dataLoss if they are damaged, unimplemented if a newer CRIU wrote them. */
export async function summarizeDump(imagesDir: string): Promise<DumpSummary> {
  await using images = await ImageDir.open(imagesDir);
  const names = await images.names();
  const inventory = readInventory(await images.read('inventory.img', MAX_SMALL_BYTES));
  const tasks = readPstree(await images.read('pstree.img'));
  if (tasks.length === 0) throw broken('pstree.img', 'it lists no process');
  const mounts: DumpedMount[] = [];
  for (const name of names.filter((n) => /^mountpoints-\d+\.img$/.test(n)))
    mounts.push(...readMountpoints(await images.read(name, MAX_SMALL_BYTES), name));
  return {
    processes: await readProcesses(images, tasks),
    memoryBytes: await sumMemory(images, names),
    externalMounts: mounts.flatMap(({ externalKey, mountpoint }) =>
      externalKey === undefined ? [] : [{ key: externalKey, mountpoint }],
    ),
    plugins: inventory.plugins,
  };
}

async function readProcesses(
  images: ImageDir,
  tasks: readonly DumpedTask[],
): Promise<DumpSummary['processes']> {
  const processes: DumpSummary['processes'] = [];
  for (const { pid, ppid, threads } of tasks) {
    const name = `core-${pid}.img`;
    const { comm } = readCore(await images.read(name, MAX_SMALL_BYTES), name);
    processes.push({ pid, ppid, comm, threads: Math.max(1, threads.length) });
  }
  return processes;
}

async function sumMemory(images: ImageDir, names: readonly string[]): Promise<number> {
  let pages = 0;
  for (const name of names.filter((n) => /^pagemap-(shmem-)?\d+\.img$/.test(n))) {
    for (const run of readPagemap(await images.read(name), name).runs) {
      if (run.flags & PageFlag.parent)
        throw new CheckpointError(
          Code.invalidArgument,
          'Cannot use the dump: it builds on an earlier one; dump without a parent',
        );
      if (run.flags & PageFlag.present) pages += run.pages;
    }
    // Page maps are the large images; let others run between two of them.
    await setImmediate();
  }
  return pages * PAGE_BYTES;
}
