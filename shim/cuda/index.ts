/**
 * GPU state of containers: taken off the GPU before a dump and put back after a restore, by the NVIDIA driver's checkpoint
 * API. Called by checkpoint/ and restore/, which load it only where there is such state. The driver itself is called by a
 * program of its own, native/cuda.
 */
export { type CudaConfig, CudaHelper } from './helper.ts';
export { type GpuRestore, prepareGpuRestore } from './resume.ts';
export { type SuspendedGpu, suspendGpu } from './suspend.ts';
