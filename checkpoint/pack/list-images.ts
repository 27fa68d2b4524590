import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { DUMP_FACTS_FILE } from '../facts.ts';
import { isFileName } from '../file-name.ts';
import type { SourceFile } from './plan.ts';

/** What lies beside CRIU's images but is not of the dump: logs, a restore's statistics, and the facts, which move. */
function isLeftOut(name: string): boolean {
  return name === DUMP_FACTS_FILE || name.endsWith('.log') || name === 'stats-restore';
}

/**
 * The files of a dump that go into an image. Throws invalidArgument if there is anything but regular files: an image
 * could not hold it, and a restore would miss it.
 */
export async function listImages(imagesDir: string): Promise<SourceFile[]> {
  const names = (await readdir(imagesDir)).filter((name) => !isLeftOut(name));
  const files: SourceFile[] = [];
  for (const name of names) {
    const stat = await lstat(join(imagesDir, name));
    if (!stat.isFile() || !isFileName(name))
      throw new CheckpointError(
        Code.invalidArgument,
        `Cannot pack the dump: ${JSON.stringify(name.slice(0, 100))} is no file that a checkpoint image can hold`,
        { context: { imagesDir } },
      );
    files.push({ name, size: stat.size });
  }
  if (files.length === 0)
    throw new CheckpointError(Code.invalidArgument, 'Cannot pack the dump: its directory is empty', {
      context: { imagesDir },
    });
  return files;
}
