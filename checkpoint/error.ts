import { CodedError } from '../proto/status.ts';

/**
 * The error of checkpoint/. The code says what kind of failure it is: dataLoss (the bytes are not what their digest or
 * checksum says), invalidArgument (an input or format that cannot be used), notFound, unauthenticated,
 * permissionDenied, resourceExhausted (disk, rate limit), deadlineExceeded, unavailable (worth another try), canceled.
 */
export class CheckpointError extends CodedError {}
