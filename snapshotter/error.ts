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
