/** What a failure of a fetch means: for whom, and whether another attempt can help. Pure. */
import { Code, describeError } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';

/** For whoever waits for the checkpoint. */
export function explain(cause: unknown, source: BlobSource): SnapshotError {
  if (cause instanceof SnapshotError) return cause;
  const { code, message, context } = describeError(cause);
  if (isFull(cause))
    return new SnapshotError(
      Code.resourceExhausted,
      'Cannot store the checkpoint: the disk of the node cache is full; free space there',
      { cause, context: { errno: describeError(cause).context['errno'] } },
    );
  return new SnapshotError(code, `Cannot fetch the checkpoint from ${source.description}: ${message}`, {
    cause,
    context,
  });
}

/** The disk is full. */
export function isFull(error: unknown): boolean {
  const { errno } = describeError(error).context;
  return errno === 'ENOSPC' || errno === 'EDQUOT';
}

/**
 * Whether the failure of a read is about that layer's blob alone, so that reading the others goes on: it is not there,
 * shorter than the index says, or cannot be had in parts.
 */
export function concernsBlob(error: unknown): boolean {
  const { code } = describeError(error);
  return code === Code.notFound || code === Code.dataLoss || code === Code.failedPrecondition;
}

/**
 * Whether waiting does not help: wrong bytes, no room, or a registry that cannot do it. Everything else (network, 429,
 * credentials, an image that was removed) may be put right while somebody waits.
 */
export function isFinal(error: unknown): boolean {
  const { code, context } = describeError(error);
  // A registry that answers 429 has the same code as a full disk.
  if (code === Code.resourceExhausted) return context['status'] === undefined;
  return code === Code.dataLoss || code === Code.failedPrecondition || code === Code.invalidArgument;
}
