/** The one error class of the snapshotter daemon; its code is what gRPC and ttrpc callers get. */
import { Code, CodedError, type CodedErrorOptions } from '../proto/status.ts';

export class SnapshotError extends CodedError {}

export function notFound(message: string, options?: CodedErrorOptions): SnapshotError {
  return new SnapshotError(Code.notFound, message, options);
}

export function alreadyExists(message: string, options?: CodedErrorOptions): SnapshotError {
  return new SnapshotError(Code.alreadyExists, message, options);
}

export function invalidArgument(message: string, options?: CodedErrorOptions): SnapshotError {
  return new SnapshotError(Code.invalidArgument, message, options);
}

export function failedPrecondition(message: string, options?: CodedErrorOptions): SnapshotError {
  return new SnapshotError(Code.failedPrecondition, message, options);
}

/** Something from outside (registry, layer, disk) is not what its digest or format says. */
export function dataLoss(message: string, options?: CodedErrorOptions): SnapshotError {
  return new SnapshotError(Code.dataLoss, message, options);
}

export function unavailable(message: string, options?: CodedErrorOptions): SnapshotError {
  return new SnapshotError(Code.unavailable, message, options);
}

/** A fault of this program. */
export function internal(message: string, options?: CodedErrorOptions): SnapshotError {
  return new SnapshotError(Code.internal, message, options);
}

/** The file system that `path` lies on is full. */
export function noSpace(path: string, options?: CodedErrorOptions): SnapshotError {
  return new SnapshotError(
    Code.resourceExhausted,
    `Cannot write "${path}": the disk is full; remove images that no container needs, or make the disk larger`,
    options,
  );
}

/** As `noSpace` where a system call said so; anything else as it is. */
export function explainFullDisk(path: string, caught: unknown): unknown {
  const errno = caught instanceof Error ? (caught as NodeJS.ErrnoException).code : undefined;
  return errno === 'ENOSPC' || errno === 'EDQUOT'
    ? noSpace(path, { cause: caught, context: { errno } })
    : caught;
}
