/**
 * GPU state of containers: taken off the GPU before a dump and put back after a restore, by the NVIDIA driver's checkpoint
 * API. Called by checkpoint/ and restore/, which load it only where there is such state. The driver itself is called by a
 * program of its own, native/cuda.
 */
import { native } from '../../native/index.ts';
import type { Runc } from '../runc/runc.ts';
import { type CudaFiles, CudaHelper } from './helper.ts';

export type { CudaFiles } from './helper.ts';
export { type GpuRestore, prepareGpuRestore } from './resume.ts';
export { type SuspendedGpu, suspendGpu } from './suspend.ts';

/** thaw-cuda, for one dump or restore; the caller closes it. */
export function cudaHelper(
  files: CudaFiles,
  { config, spawner }: Pick<Runc, 'config' | 'spawner'>,
): CudaHelper {
  return new CudaHelper({ ...files, env: config.env }, { calls: native, spawner });
}
