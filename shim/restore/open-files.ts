/**
 * Files that processes had open in volumes. What is in a volume is the pod's, and CRIU opens a file again only if it is what
 * it was in kind and size: so they are looked at before it runs, and each that differs is named.
 */
import { lstat } from 'node:fs/promises';
import { type DumpedFile, readFiles } from '../../checkpoint/criu/files.ts';
import { ImageDir } from '../../checkpoint/criu/image-dir.ts';
import { readRemappedFiles } from '../../checkpoint/criu/remaps.ts';
import { SHM_DESTINATION } from '../../checkpoint/shm.ts';
import { Code } from '../../proto/status.ts';
import { HeldDir } from '../shm/held-dir.ts';
import type { OciMount, OciSpec } from '../task/oci-spec.ts';
import { RestoreError } from './error.ts';
import { FILES_IMAGE } from './sockets.ts';

/** More than these in one sentence help nobody. */
const MOST_NAMED = 5;
const FILE_TYPE = 0o170000;

/** Rejects if a volume of the pod lacks a file, or has another one in its place. */
export async function checkOpenFiles(imagesDir: string, spec: OciSpec): Promise<void> {
  await using images = await ImageDir.open(imagesDir);
  const files = readFiles(await images.read(FILES_IMAGE));
  const remapped = await readRemappedFiles(images);
  const found = await Promise.all(
    files.map(async (file) => {
      // CRIU makes those that had lost their names itself.
      const place = remapped.has(file.id) || file.isExternal ? undefined : placeOf(file, spec.mounts ?? []);
      return place && difference(file, place);
    }),
  );
  const differences = found.filter((one) => one !== undefined);
  if (differences.length === 0) return;
  const more = differences.length - MOST_NAMED;
  const said = [...differences.slice(0, MOST_NAMED), ...(more > 0 ? [`${more} more`] : [])];
  throw new RestoreError(Code.unavailable, said.join('; '));
}

export interface Place {
  /** Of the volume, on the node. */
  source: string;
  /** Below it; empty for a file that is mounted by itself. */
  path: string;
}

/** Undefined for a file that is in no volume. */
export function placeOf({ path }: Pick<DumpedFile, 'path'>, mounts: readonly OciMount[]): Place | undefined {
  const absolute = path === undefined || path.startsWith('/') ? path : `/${path}`;
  let found: OciMount | undefined;
  for (const mount of mounts) {
    const { destination } = mount;
    const within = absolute === destination || absolute?.startsWith(`${destination.replace(/\/$/, '')}/`);
    if (within && destination.length >= (found?.destination.length ?? 0)) found = mount;
  }
  const options = found?.options ?? [];
  const bound = found?.type === 'bind' || options.includes('bind') || options.includes('rbind');
  // What is in /dev/shm was put there a moment ago, or is about to be.
  if (!absolute || !bound || !found?.source || found.destination === SHM_DESTINATION) return undefined;
  return { source: found.source, path: absolute.slice(found.destination.length).replace(/^\//, '') };
}

async function difference(file: DumpedFile, place: Place): Promise<string | undefined> {
  const name = `"${file.path}"`;
  const info = await statOf(place);
  if (!info) return `a process had ${name} open, which is not in the pod's volume`;
  const { mode, size } = file;
  if (mode !== undefined && (info.mode & FILE_TYPE) !== (mode & FILE_TYPE))
    return `a process had ${name} open, which is something else in the pod's volume`;
  if (mode !== undefined && info.mode !== mode)
    return `a process had ${name} open, whose mode was ${octal(mode)} and is ${octal(info.mode)} in the pod's volume`;
  if (size !== undefined && BigInt(info.size) !== size)
    return `a process had ${name} open, which had ${size} bytes and has ${info.size} in the pod's volume`;
  return undefined;
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0');
}

async function statOf(place: Place): Promise<{ mode: number; size: number } | undefined> {
  if (place.path !== '') return inVolume(place, (path) => lstat(path));
  return lstat(place.source).catch(missing);
}

/** Undefined where there is nothing of that name, no directory on the way, or a link on it. */
export async function inVolume<Result>(
  { source, path }: Place,
  use: (path: string) => Promise<Result>,
): Promise<Result | undefined> {
  try {
    const root = await HeldDir.open(source);
    try {
      return await root.within(path, (dir, name) => use(dir.at(name)));
    } finally {
      await root.close();
    }
  } catch (error) {
    return missing(error);
  }
}

function missing(error: unknown): undefined {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (!['ENOENT', 'ENOTDIR', 'ELOOP'].includes(code)) throw error;
}
