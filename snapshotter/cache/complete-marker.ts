/** The file in an entry's directory that vouches, over a restart, for every byte of it. */
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { syncPath } from './image-files.ts';

export const COMPLETE = 'complete';

/** `id`: digest of the index, which the marker names. */
export async function isMarkedComplete(directory: string, id: string): Promise<boolean> {
  try {
    return (await readFile(join(directory, COMPLETE), 'utf8')) === `${id}\n`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** Only after everything that it vouches for is on disk. */
export async function markComplete(directory: string, id: string): Promise<void> {
  const marker = join(directory, COMPLETE);
  const handle = await open(`${marker}.new`, 'w', 0o600);
  try {
    await handle.writeFile(`${id}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${marker}.new`, marker);
  await syncPath(directory);
}
