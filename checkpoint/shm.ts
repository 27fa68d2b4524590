/**
 * What was in /dev/shm at a checkpoint: `thaw-shm.json` lists it, `thaw-shm.data` holds the bytes of its files. In a pod
 * /dev/shm is a directory of the host that the pod's containers share, so CRIU saves nothing of it.
 * docs/image-format.md is the specification.
 */
import * as z from 'zod/mini';
import { Code } from '../proto/status.ts';
import { CheckpointError } from './error.ts';

export const SHM_DESTINATION = '/dev/shm';
export const SHM_LIST_FILE = 'thaw-shm.json';
export const SHM_DATA_FILE = 'thaw-shm.data';

export const shmLimits = { listBytes: 16 << 20, entries: 65_536, pathBytes: 4095, depth: 32 } as const;

const count = z.int().check(z.nonnegative());
const id = z.int().check(z.minimum(0), z.maximum(0xffff_fffe));
/** Without setuid and setgid. */
const mode = z.int().check(z.minimum(0), z.maximum(0o1777));
/** Relative, of names that can be nothing but entries of their directory. */
const path = z.string().check(z.refine(isRelativePath, 'is no path below /dev/shm'));

const entry = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('directory'), path, mode, uid: id, gid: id }),
  /** `offset` and `size` are bytes of the data file. */
  z.object({ kind: z.literal('file'), path, mode, uid: id, gid: id, offset: count, size: count }),
  z.object({ kind: z.literal('symlink'), path, uid: id, gid: id, target: z.string() }),
  /** Another name of the file `to`, which comes before it. */
  z.object({ kind: z.literal('link'), path, to: path }),
]);
export type ShmEntry = z.infer<typeof entry>;

const list = z.object({
  version: z.literal(1),
  entries: z.array(entry).check(z.maxLength(shmLimits.entries)),
});

export function writeShmList(entries: readonly ShmEntry[]): Buffer {
  return Buffer.from(JSON.stringify({ version: 1, entries }));
}

/** Parents come before what is in them. Throws dataLoss for a list that no checkpoint makes; `dataBytes` is the data file's size. */
export function readShmList(bytes: Uint8Array, dataBytes: number): ShmEntry[] {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw broken('it is no JSON', cause);
  }
  const parsed = list.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw broken(`${issue?.path.join('.') || 'the document'} is not as the format says`, parsed.error);
  }
  const seen = new Map<string, ShmEntry['kind']>();
  for (const one of parsed.data.entries) {
    const shown = JSON.stringify(one.path);
    if (seen.has(one.path)) throw broken(`${shown} is listed twice`);
    const parent = one.path.slice(0, Math.max(0, one.path.lastIndexOf('/')));
    if (parent !== '' && seen.get(parent) !== 'directory') throw broken(`${shown} is in no listed directory`);
    checkContent(one, seen, dataBytes);
    seen.set(one.path, one.kind);
  }
  return parsed.data.entries;
}

function checkContent(one: ShmEntry, seen: ReadonlyMap<string, string>, dataBytes: number): void {
  const shown = JSON.stringify(one.path);
  switch (one.kind) {
    case 'directory':
      return;
    case 'file':
      if (one.size > dataBytes - one.offset)
        throw broken(`${shown} ends behind the ${dataBytes} bytes of "${SHM_DATA_FILE}"`);
      return;
    case 'symlink':
      if (one.target === '' || one.target.includes('\0') || byteLength(one.target) > shmLimits.pathBytes)
        throw broken(`${shown} points to what can be no path`);
      return;
    case 'link':
      if (seen.get(one.to) !== 'file') throw broken(`${shown} is another name of no listed file`);
      return;
    default:
      one satisfies never;
  }
}

/** Bytes that the files take, if none of them has holes. */
export function shmBytes(entries: readonly ShmEntry[]): number {
  return entries.reduce((sum, one) => sum + (one.kind === 'file' ? one.size : 0), 0);
}

export function isRelativePath(text: string): boolean {
  const names = text.split('/');
  if (byteLength(text) > shmLimits.pathBytes || names.length > shmLimits.depth) return false;
  return names.every(
    (name) => name !== '' && name !== '.' && name !== '..' && !name.includes('\0') && byteLength(name) <= 255,
  );
}

function byteLength(text: string): number {
  return Buffer.byteLength(text);
}

function broken(why: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    Code.dataLoss,
    `Cannot read "${SHM_LIST_FILE}" of the checkpoint: ${why}`,
    cause === undefined ? {} : { cause },
  );
}
