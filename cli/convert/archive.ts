/**
 * What lies in a checkpoint archive as CRI-O, containerd and Podman write it and checkpointctl reads it, and which of its
 * entries are taken. Pure. Source: checkpointctl's lib/metadata.go.
 */
import { isFileName } from '../../checkpoint/file-name.ts';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';

export const ARCHIVE = {
  images: 'checkpoint',
  config: 'config.dump',
  spec: 'spec.dump',
  status: 'status.dump',
  diff: 'rootfs-diff.tar',
  deleted: 'deleted.files',
  log: 'dump.log',
  /** Ours: checkpoint.json, which other readers leave alone. */
  facts: 'thaw.json',
} as const;

/** Documents that are read whole. */
export const MAX_DOCUMENT_BYTES = 16 << 20;
/** CRIU writes a few files a process. */
export const MAX_ENTRIES = 200_000;

export type ArchiveEntry =
  | { kind: 'image'; name: string }
  | { kind: 'document'; name: 'config' | 'spec' | 'deleted' | 'facts' }
  | { kind: 'diff' }
  | { kind: 'log' }
  /** Volumes, logs, network state: not part of our image. */
  | { kind: 'ignored' };

const DOCUMENTS: Readonly<Record<string, 'config' | 'spec' | 'deleted' | 'facts'>> = {
  [ARCHIVE.config]: 'config',
  [ARCHIVE.spec]: 'spec',
  [ARCHIVE.deleted]: 'deleted',
  [ARCHIVE.facts]: 'facts',
};

/** Throws for an entry that no honest archive has: a name that leads out of it, or an image that is no regular file. */
export function classify(path: string, type: string | null | undefined): ArchiveEntry {
  const name = path.replace(/^(\.\/)+/, '').replace(/\/+$/, '');
  if (name.startsWith('/') || name.split('/').includes('..'))
    throw broken(path, 'it leads out of the archive');
  const regular = type === 'file' || type === 'contiguous-file';
  if (name === ARCHIVE.diff) return regular ? { kind: 'diff' } : refuse(path);
  if (name === ARCHIVE.log) return regular ? { kind: 'log' } : refuse(path);
  const document = DOCUMENTS[name];
  if (document !== undefined) return regular ? { kind: 'document', name: document } : refuse(path);
  const [directory, file, ...below] = name.split('/');
  if (directory !== ARCHIVE.images || file === undefined) return { kind: 'ignored' };
  if (below.length > 0 || !regular) return refuse(path);
  if (!isFileName(file)) throw broken(path, 'a checkpoint image cannot hold a file of that name');
  return { kind: 'image', name: file };
}

function refuse(path: string): never {
  throw broken(path, 'it is no regular file');
}

function broken(path: string, why: string): CliError {
  return new CliError(
    Code.dataLoss,
    `Cannot trust the archive: ${JSON.stringify(path.slice(0, 100))}: ${why}`,
  );
}
