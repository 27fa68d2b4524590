/** CUresults of the checkpoint functions in words that say what to do. Pure. */
import { Code } from '../../proto/status.ts';
import { CudaError } from './error.ts';

export type Operation = 'state' | 'thread' | 'lock' | 'checkpoint' | 'restore' | 'unlock';

/** CUresult. Source: cuda.h. */
export const Result = {
  invalidValue: 1,
  outOfMemory: 2,
  notInitialized: 3,
  operatingSystem: 304,
  illegalState: 401,
  notReady: 600,
  notSupported: 801,
} as const;

const DOING: Readonly<Record<Operation, string>> = {
  state: 'ask for the CUDA state of',
  thread: 'ask for the CUDA thread of',
  lock: 'stop the CUDA work of',
  checkpoint: 'take off the GPU the memory of',
  restore: 'put back on the GPU the memory of',
  unlock: 'let go on the CUDA work of',
};

/** What the driver answered, as an error; `name` is the driver's own, if it has one. */
export function resultError(operation: Operation, pid: number, result: number, name: string): CudaError {
  const { code, why } = meaning(operation, result);
  const called = name || `CUDA error ${result}`;
  return new CudaError(
    code,
    `Cannot ${DOING[operation]} process ${pid}: ${why ? `${why} (${called})` : called}`,
    { context: { pid, operation, result } },
  );
}

function meaning(operation: Operation, result: number): { code: Code; why: string } {
  switch (result) {
    case Result.notReady:
      return {
        code: Code.deadlineExceeded,
        why: 'the GPU did not finish what it was given in time; checkpoint when the process is idle',
      };
    case Result.notSupported:
      return {
        code: Code.failedPrecondition,
        why: 'it uses something that the driver cannot save, such as managed memory (UVM), MPS or memory shared between GPUs',
      };
    case Result.outOfMemory:
      return operation === 'restore'
        ? {
            code: Code.resourceExhausted,
            why: 'the GPU has too little free memory; end what else uses it. The process cannot be saved any more',
          }
        : { code: Code.resourceExhausted, why: 'the host has too little memory for what is on the GPU' };
    case Result.invalidValue:
      return operation === 'restore'
        ? {
            code: Code.failedPrecondition,
            why: 'the GPUs do not match those of the checkpoint in number, model or memory, or it shared GPU memory',
          }
        : { code: Code.invalidArgument, why: '' };
    case Result.illegalState:
      return {
        code: Code.failedPrecondition,
        why: 'another program has locked or checkpointed it, or an earlier restore has failed',
      };
    case Result.operatingSystem:
      return { code: Code.notFound, why: 'it has ended, or it may not be traced' };
    case Result.notInitialized:
      return { code: Code.failedPrecondition, why: 'it does not use CUDA' };
    default:
      return { code: Code.internal, why: '' };
  }
}

/** The CUresult that an error came from. */
export function resultOf(error: unknown): number | undefined {
  const result = error instanceof CudaError ? error.context['result'] : undefined;
  return typeof result === 'number' ? result : undefined;
}
