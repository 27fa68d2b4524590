/**
 * What a restore attempt leaves in the container's upper directory: runc makes mountpoints there, CRIU ghost files. A
 * cold start must find it as containerd prepared it.
 */
import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** More entries than this in a fresh upper directory: it is not fresh, and a restore is not tried. */
const MAX_ENTRIES = 4096;

export type UpperListing = ReadonlySet<string>;

/** Relative paths of everything below the directory; undefined if there are too many to look after. */
export async function listUpper(upper: string): Promise<UpperListing | undefined> {
  const entries = new Set<string>();
  const pending = [''];
  for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
    for (const entry of await readdir(join(upper, dir), { withFileTypes: true })) {
      const path = join(dir, entry.name);
      entries.add(path);
      if (entries.size > MAX_ENTRIES) return undefined;
      if (entry.isDirectory()) pending.push(path);
    }
  }
  return entries;
}

/**
 * Takes away the mark of a mount with "volatile", for which overlayfs refuses these directories ever after: it cannot know
 * that nothing crashed meanwhile. Whoever mounted them himself, and unmounted them, does. Source: kernel documentation,
 * filesystems/overlayfs.rst, "Volatile mount".
 */
export async function forgetVolatile(work: string): Promise<void> {
  await rm(join(work, 'work/incompat/volatile'), { recursive: true, force: true });
}

/** Removes what is not in the listing. The overlay must not be mounted. */
export async function resetUpper(upper: string, before: UpperListing, dir = ''): Promise<void> {
  for (const name of await readdir(join(upper, dir))) {
    const path = join(dir, name);
    const full = join(upper, path);
    if (!before.has(path)) await rm(full, { recursive: true, force: true });
    else if ((await lstat(full)).isDirectory()) await resetUpper(upper, before, path);
  }
}
