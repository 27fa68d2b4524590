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
  shm: 'devshm-checkpoint.tar',
  volumes: 'volumes',
  /** How long the dump took, by CRIU. */
  stats: 'stats-dump',
  log: 'dump.log',
  /** Of containerd's CRI alone: the state of its container. */
  state: 'status',
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
  | { kind: 'shm' }
  /** What was in a volume of Podman's. */
  | { kind: 'volume'; name: string }
  | { kind: 'log' }
  /** The archive is of a pod, and has one for each of its containers. */
  | { kind: 'pod' }
  /** Logs, network state, mounts that spec.dump has too: not part of our image. */
  | { kind: 'ignored' };

const DOCUMENTS: Readonly<Record<string, 'config' | 'spec' | 'deleted' | 'facts'>> = {
  [ARCHIVE.config]: 'config',
  [ARCHIVE.spec]: 'spec',
  [ARCHIVE.deleted]: 'deleted',
  [ARCHIVE.facts]: 'facts',
};

/** Source: checkpointctl's lib/metadata.go, "pod archive". */
const POD: readonly string[] = ['pod.options', 'pod.dump'];

/** Throws for an entry that no honest archive has: a name that leads out of it, or an image that is no regular file. */
export function classify(path: string, type: string | null | undefined): ArchiveEntry {
  const name = path.replace(/^(\.\/)+/, '').replace(/\/+$/, '');
  if (name.startsWith('/') || name.split('/').includes('..'))
    throw broken(path, 'it leads out of the archive');
  const regular = type === 'file' || type === 'contiguous-file';
  if (name === ARCHIVE.diff) return regular ? { kind: 'diff' } : refuse(path);
  if (name === ARCHIVE.shm) return regular ? { kind: 'shm' } : refuse(path);
  if (name === ARCHIVE.log) return regular ? { kind: 'log' } : refuse(path);
  if (name === ARCHIVE.stats) return regular ? { kind: 'image', name } : refuse(path);
  if (POD.includes(name)) return { kind: 'pod' };
  const document = DOCUMENTS[name];
  if (document !== undefined) return regular ? { kind: 'document', name: document } : refuse(path);
  const [directory, file, ...below] = name.split('/');
  if (directory === ARCHIVE.volumes && file !== undefined)
    return regular && below.length === 0
      ? { kind: 'volume', name: file.replace(/\.tar$/, '') }
      : refuse(path);
  if (directory !== ARCHIVE.images || file === undefined) return { kind: 'ignored' };
  // Beside the images where nobody had CRIU write it elsewhere; the archive's own is the same.
  if (name === `${ARCHIVE.images}/${ARCHIVE.stats}`) return { kind: 'ignored' };
  if (file === 'parent' && type === 'symlink')
    throw new CliError(
      Code.failedPrecondition,
      'Cannot convert the archive: it has only what changed since an earlier checkpoint; make one without --with-previous',
    );
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
