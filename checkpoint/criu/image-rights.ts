/** All that the images of a dump would give to tasks if they were restored as they are. What of it is granted is not said here. */
import { broken } from './framing.ts';
import { ImageDir } from './image-dir.ts';
import { type DumpedNamespaces, readNamespaces } from './namespaces.ts';
import { type RestoredMount, readRestoredMounts } from './restored-mounts.ts';
import { type RestoredObjects, readObjects } from './restored-objects.ts';
import { filtersOf, type ProcessFilters, readThreads } from './task-filters.ts';
import { type ProcessRights, readCores, type TaskRights } from './task-rights.ts';

export interface ImageRights {
  /** Every thread. */
  tasks: readonly TaskRights[];
  processes: readonly ProcessRights[];
  namespaces: DumpedNamespaces;
  mounts: readonly RestoredMount[];
  objects: RestoredObjects;
  /** Of every process. */
  filters: readonly ProcessFilters[];
}

/**
 * Images that CRIU reads in the place of those that are looked at here (older forms, from which the entries were moved), and
 * those that change the machine rather than a container: policies of AppArmor, handlers of binfmt_misc.
 */
const REFUSED =
  /^(creds|rlimit|vmas|userns|autofs|binfmt-misc)-\d+\.img$|^(reg-files|ext-files|ns-files|apparmor|binfmt-misc)\.img$/;

/** Throws dataLoss for images that are damaged, or that no dump by a CRIU of today has. */
export async function readImageRights(imagesDir: string): Promise<ImageRights> {
  await using images = await ImageDir.open(imagesDir);
  const names = await images.names();
  const refused = names.find((name) => REFUSED.test(name));
  if (refused !== undefined) throw broken(refused, 'a container has nothing that belongs there');
  // Every one has ended before the directory is closed.
  const [cores, threads, namespaces, mounts, objects] = await Promise.allSettled([
    readCores(images, names),
    readThreads(images),
    readNamespaces(images, names),
    readRestoredMounts(images, names),
    readObjects(images, names),
  ]);
  const found = settled(cores);
  const tasks = found.flatMap(({ task }) => task ?? []);
  return {
    tasks,
    filters: filtersOf(tasks, settled(threads)),
    processes: found.flatMap(({ process }) => process ?? []),
    namespaces: settled(namespaces),
    mounts: settled(mounts),
    objects: settled(objects),
  };
}

function settled<Value>(result: PromiseSettledResult<Value>): Value {
  if (result.status === 'rejected') throw result.reason;
  return result.value;
}
