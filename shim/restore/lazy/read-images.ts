/** Reads from CRIU images what a restore with lazy memory is planned by. */

import { ImageDir } from '../../../checkpoint/criu/image-dir.ts';
import { readPagemap } from '../../../checkpoint/criu/pagemap.ts';
import { readVmas } from '../../../checkpoint/criu/tasks.ts';
import type { CheckpointIndex } from '../../../checkpoint/index-format.ts';
import { type MemoryPlan, planMemory } from './memory-plan.ts';

/** Every image but the pages files must be complete. */
export async function readMemoryPlan(
  imagesDir: string,
  index: CheckpointIndex,
): Promise<MemoryPlan | undefined> {
  await using images = await ImageDir.open(imagesDir);
  const names = await images.names();
  const tasks = [];
  const others = [];
  for (const name of names.filter((candidate) => /^pagemap-.*\.img$/.test(candidate))) {
    const pagemap = readPagemap(await images.read(name), name);
    const pid = /^pagemap-(\d+)\.img$/.exec(name)?.[1];
    if (pid === undefined) others.push(pagemap);
    else {
      const mm = `mm-${pid}.img`;
      tasks.push({ pid: Number(pid), pagemap, vmas: readVmas(await images.read(mm), mm) });
    }
  }
  return planMemory(index, tasks, others);
}
