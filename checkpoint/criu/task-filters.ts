/** Which tasks of a dump get which seccomp filters. */
import { criu } from '../../proto/gen/criu-rights.js';
import { decodeMessage } from './decode.ts';
import { Magic } from './framing.ts';
import type { ImageDir } from './image-dir.ts';
import type { TaskRights } from './task-rights.ts';

export interface ProcessFilters {
  /** The last filter of each task that has some of its own, by number in the image of all. */
  last: readonly number[];
  /** All threads get those of the main one, as the kernel gives them out (SECCOMP_FILTER_FLAG_TSYNC). */
  isShared: boolean;
  /** Tasks that get none: the main one alone where all threads share what it has. */
  without: readonly number[];
}

/** SECCOMP_MODE_FILTER */
const FILTER = 2;
const NAME = 'pstree.img';

/** Task ids by process, the main one first. */
export async function readThreads(images: ImageDir): Promise<number[][]> {
  const messages = await images.messages(NAME, Magic.pstree);
  return messages.map((message) => {
    const { pid, threads } = decodeMessage(criu.PstreeItem, message, NAME);
    return [pid, ...(threads ?? []).filter((thread) => thread !== pid)];
  });
}

/**
 * By process. Where all of its threads have the same filters CRIU notes them for the main one alone, with the flag, and no mode
 * for the others.
 */
export function filtersOf(
  tasks: readonly TaskRights[],
  threads: readonly (readonly number[])[],
): ProcessFilters[] {
  const byId = new Map(tasks.map((task) => [task.pid, task]));
  const processes = threads.map((ids) => ids.flatMap((id) => byId.get(id) ?? []));
  return processes.map(([main, ...others]) => {
    const all = main ? [main, ...others] : others;
    const last = all.flatMap(({ seccompMode, seccompFilter }) =>
      seccompMode === FILTER ? [seccompFilter ?? 0] : [],
    );
    const without = all.flatMap(({ pid, seccompMode }) => (seccompMode === 0 ? [pid] : []));
    const isShared = others.every(({ seccompMode }) => seccompMode === 0);
    return { last, isShared, without: isShared ? without.filter((pid) => pid === main?.pid) : without };
  });
}
