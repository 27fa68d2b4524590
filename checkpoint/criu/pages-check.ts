/**
 * Whether the pages files hold what the page maps say. CRIU does not check: a restorer that reads behind the end of its
 * pages file tries again for ever (seen with 4.2).
 */
import { constants } from 'node:fs';
import { open, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { broken } from './framing.ts';
import { ImageDir } from './image-dir.ts';
import { PAGE_BYTES, PageFlag, readPagemap } from './pagemap.ts';

/** Throws dataLoss naming the first file that is too short, missing, or refers to a parent dump. */
export function checkPages(imagesDir: string): Promise<void> {
  return check(imagesDir, false);
}

/** CRIU's name for the directory of the dump before. */
const PARENT_LINK = 'parent';
const LONGEST_CHAIN = 64;

/** The same for an incremental dump, with every dump that it refers to. The directories are the caller's and trusted. */
export async function checkChain(imagesDir: string): Promise<void> {
  let dir = await realpath(imagesDir).catch((cause: unknown) => {
    throw broken(imagesDir, 'there is no such directory', cause);
  });
  for (let depth = 0; depth < LONGEST_CHAIN; depth++) {
    const parent = await realpath(join(dir, PARENT_LINK)).catch(() => undefined);
    await check(dir, parent !== undefined);
    if (parent === undefined) return;
    dir = parent;
  }
  throw broken(PARENT_LINK, `it has more than ${LONGEST_CHAIN} dumps before it`);
}

async function check(imagesDir: string, mayHaveParent: boolean): Promise<void> {
  await using images = await ImageDir.open(imagesDir);
  const needed = new Map<number, number>();
  for (const name of await images.names()) {
    if (!/^pagemap-.*\.img$/.test(name)) continue;
    const { pagesId, runs } = readPagemap(await images.read(name), name);
    let pages = needed.get(pagesId) ?? 0;
    for (const run of runs) {
      if ((run.flags & PageFlag.parent) !== 0) {
        if (mayHaveParent) continue;
        throw broken(name, 'it needs a parent dump, and there is none');
      }
      if ((run.flags & PageFlag.present) !== 0) pages += run.pages;
    }
    needed.set(pagesId, pages);
  }
  for (const [id, pages] of needed) {
    const name = `pages-${id}.img`;
    const size = pages === 0 ? 0 : await sizeOf(join(imagesDir, name), name);
    if (size < pages * PAGE_BYTES)
      throw broken(name, `it has ${size} bytes, the page maps need ${pages * PAGE_BYTES}`);
  }
}

async function sizeOf(path: string, name: string): Promise<number> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((cause: unknown) => {
    throw broken(name, 'it is missing or no regular file', cause);
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw broken(name, 'it is no regular file');
    return stat.size;
  } finally {
    await file.close();
  }
}
