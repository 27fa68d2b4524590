/**
 * What is in /dev/shm: a tar beside CRIU's images in an archive of Podman or CRI-O (source: Podman's
 * libpod/container_internal_common.go), a list and its data in an image (checkpoint/shm.ts).
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { type FileHandle, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { extract, type Header, type Pack, pack } from 'tar-stream';
import {
  readShmList,
  SHM_DATA_FILE,
  SHM_LIST_FILE,
  type ShmEntry,
  shmLimits,
  writeShmList,
} from '../../checkpoint/shm.ts';
import { Code, describeError } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import { ARCHIVE } from './archive.ts';
import { openMaybeCompressed } from './read-archive.ts';

/** Files begin at pages, so that a page of zeros can be left out of the image. */
const ALIGN = 4096;

export interface TakenShm {
  entries: number;
  /** Paths of pipes and devices: nothing that a copy could stand for. */
  leftOut: string[];
}

/** From the tar to `imagesDir`; nothing is written there for an empty one. What our own restore would refuse is refused here. */
export async function takeShm(path: string, imagesDir: string, signal: AbortSignal): Promise<TakenShm> {
  const dataPath = join(imagesDir, SHM_DATA_FILE);
  const data = await open(dataPath, 'wx', 0o600);
  let taken: { entries: ShmEntry[]; leftOut: string[]; end: number };
  try {
    taken = await takeEntries(path, data, signal);
  } finally {
    await data.close();
  }
  const { entries, leftOut, end } = taken;
  if (entries.length === 0) {
    await rm(dataPath);
    return { entries: 0, leftOut };
  }
  const list = writeShmList(entries);
  try {
    readShmList(list, end);
  } catch (cause) {
    throw broken(describeError(cause).message, cause);
  }
  await writeFile(join(imagesDir, SHM_LIST_FILE), list, { flag: 'wx', mode: 0o600 });
  return { entries: entries.length, leftOut };
}

async function takeEntries(path: string, data: FileHandle, signal: AbortSignal) {
  const tar = extract();
  const feeding = openMaybeCompressed(path, signal).then((source) => pipeline(source, tar, { signal }));
  // A failure of it ends the loop below too, and is the one to tell of.
  feeding.catch((error: unknown) => tar.destroy(error instanceof Error ? error : undefined));
  const entries: ShmEntry[] = [];
  const leftOut: string[] = [];
  let end = 0;
  for await (const stream of tar) {
    const entry = entryOf(stream.header, Math.ceil(end / ALIGN) * ALIGN);
    if (entry === 'none') leftOut.push(relative(stream.header.name));
    else if (entry !== 'root') entries.push(entry);
    if (entries.length + leftOut.length > shmLimits.entries)
      throw broken(`it has more than ${shmLimits.entries} entries`);
    let at = typeof entry === 'object' && entry.kind === 'file' ? entry.offset : 0;
    for await (const part of stream as AsyncIterable<Buffer>) {
      if (typeof entry !== 'object' || entry.kind !== 'file') continue;
      await data.write(part, 0, part.length, at);
      at += part.length;
      end = at;
    }
  }
  await feeding;
  return { entries, leftOut, end };
}

function entryOf(header: Header, offset: number): ShmEntry | 'root' | 'none' {
  const path = relative(header.name);
  const { uid = 0, gid = 0, size = 0, linkname } = header;
  const owner = { uid, gid };
  const mode = (header.mode ?? 0o600) & 0o1777;
  switch (header.type) {
    case 'directory':
      return path === '' ? 'root' : { kind: 'directory', path, mode, ...owner };
    case 'file':
    case 'contiguous-file':
      return { kind: 'file', path, mode, ...owner, offset, size };
    case 'symlink':
      return { kind: 'symlink', path, ...owner, target: linkname ?? '' };
    case 'link':
      return { kind: 'link', path, to: relative(linkname ?? '') };
    default:
      return 'none';
  }
}

function relative(name: string): string {
  return name
    .replace(/^(?:\.?\/)+/, '')
    .replace(/\/+$/, '')
    .replace(/^\.$/, '');
}

/** From `imagesDir` to a tar at `target`; false where the checkpoint had nothing there. */
export async function writeShmTar(
  imagesDir: string,
  target: string,
  mtime: Date,
  signal: AbortSignal,
): Promise<boolean> {
  const list = await readFile(join(imagesDir, SHM_LIST_FILE)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (list === undefined) return false;
  const data = join(imagesDir, SHM_DATA_FILE);
  const entries = readShmList(list, (await stat(data)).size);
  const tar = pack();
  const writing = pipeline(tar, createWriteStream(target, { flags: 'wx', mode: 0o600 }), { signal });
  writing.catch((error: unknown) => tar.destroy(error instanceof Error ? error : undefined));
  for (const entry of entries) await addEntry(tar, entry, { data, mtime, signal });
  tar.finalize();
  await writing;
  return true;
}

async function addEntry(
  tar: Pack,
  entry: ShmEntry,
  { data, mtime, signal }: { data: string; mtime: Date; signal: AbortSignal },
): Promise<void> {
  switch (entry.kind) {
    case 'directory': {
      const { path, kind, ...owner } = entry;
      tar.entry({ name: `${path}/`, type: kind, mtime, ...owner });
      return;
    }
    case 'symlink':
      tar.entry({
        ...{ name: entry.path, type: 'symlink', linkname: entry.target },
        ...{ mode: 0o777, uid: entry.uid, gid: entry.gid, mtime },
      });
      return;
    case 'link':
      tar.entry({ name: entry.path, type: 'link', linkname: entry.to, mtime });
      return;
    case 'file': {
      const { path, mode, uid, gid, offset, size } = entry;
      const file = tar.entry({ name: path, mode, uid, gid, size, mtime });
      // An empty range cannot be named to a stream.
      if (size === 0) file.end(null);
      else
        await pipeline(createReadStream(data, { start: offset, end: offset + size - 1 }), file, { signal });
      return;
    }
    default:
      entry satisfies never;
  }
}

function broken(why: string, cause?: unknown): CliError {
  return new CliError(
    Code.dataLoss,
    `Cannot trust the archive: ${ARCHIVE.shm}: ${why}`,
    cause === undefined ? {} : { cause },
  );
}
