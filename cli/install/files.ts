/** What lies at a path, and putting something else there in one step that a power failure does not halve. */
import { createHash } from 'node:crypto';
import {
  constants,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  symlink,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Code, describeError } from '../../proto/status.ts';
import { ignoreMissing } from '../cleanup.ts';
import { refused } from './error.ts';

export type FileState =
  | { kind: 'absent' }
  | { kind: 'file'; mode: number; text: string }
  | { kind: 'link'; target: string };

export const ABSENT: FileState = { kind: 'absent' };

/** Throws for what is neither a file nor a link. */
export async function stateOf(path: string): Promise<FileState> {
  try {
    const found = await lstat(path);
    if (found.isSymbolicLink()) return { kind: 'link', target: await readlink(path) };
    if (!found.isFile()) throw refused(`${path} is neither a file nor a link: move it away`);
    return { kind: 'file', mode: found.mode & 0o7777, text: await readFile(path, 'utf8') };
  } catch (error) {
    if (describeError(error).code === Code.notFound) return ABSENT;
    throw error;
  }
}

/** Where a file is written that may be named through a link: the link stays. */
export async function followed(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (describeError(error).code === Code.notFound) return path;
    throw error;
  }
}

/** Tells two states apart, without what the file says. */
export function fingerprint(state: FileState): string {
  switch (state.kind) {
    case 'absent':
      return 'absent';
    case 'link':
      return `link ${state.target}`;
    case 'file':
      return `file ${state.mode.toString(8)} ${createHash('sha256').update(state.text).digest('hex')}`;
  }
}

/** Whoever looks, also after a power failure, finds what was there or what is to be there. */
export async function putState(path: string, state: FileState): Promise<void> {
  const directory = dirname(path);
  if (state.kind === 'absent') {
    await rm(path, { force: true });
    await ignoreMissing(syncDirectory(directory));
    return;
  }
  await mkdir(directory, { recursive: true });
  // The same name each time: what an interrupted call leaves is replaced by the next.
  const next = join(directory, `.${basename(path)}.thaw-new`);
  await rm(next, { force: true });
  if (state.kind === 'link') await symlink(state.target, next);
  else await writeSynced(next, state);
  await rename(next, path);
  await syncDirectory(directory);
}

async function writeSynced(path: string, { mode, text }: { mode: number; text: string }): Promise<void> {
  const handle = await open(path, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.chmod(mode);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A folder and all that is in it; of a mount point, what is in it. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    const { code, path: where } = error as NodeJS.ErrnoException;
    if (code !== 'EBUSY' || where !== path) throw error;
    // Of a mount point the kernel says so also before it looks whether anything is in it.
    for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true });
  }
}

/** What is named in it stays so over a power failure. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
