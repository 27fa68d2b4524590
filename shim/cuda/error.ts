import { CodedError } from '../../proto/status.ts';

/** Why the GPU state of a container cannot be saved or brought back. */
export class CudaError extends CodedError {}
