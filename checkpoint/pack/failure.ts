import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import type { WorkerResult } from './protocol.ts';

/** The error for what went wrong in a packing thread. */
export function packFailure(result: Extract<WorkerResult, { kind: 'failed' }>): CheckpointError {
  const context = { errno: result.code, syscall: result.syscall };
  if (result.code === 'ENOSPC' || result.code === 'EDQUOT')
    return new CheckpointError(
      Code.resourceExhausted,
      'Cannot pack the checkpoint: the disk of the scratch directory is full; free space there or choose another directory',
      { context },
    );
  return new CheckpointError(Code.internal, `Cannot pack the checkpoint: ${result.message}`, { context });
}
