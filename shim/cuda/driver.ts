/** What is asked of the CUDA driver. native/cuda/request.h has the lines; helper.ts is the one that runs. */

/** CUprocessState. Source: cuda.h (CUDA 12.8). */
export type ProcessState = 'running' | 'locked' | 'checkpointed' | 'failed';

/** A GPU of this node, as NVML describes it. */
export interface Gpu {
  /** "GPU-" and 32 hexadecimal digits in five groups. */
  uuid: string;
  /** Its device is /dev/nvidia<minor>. */
  minor: number;
  memoryBytes: number;
  name: string;
  mig: boolean;
  persistence: boolean;
  vgpu: boolean;
}

export interface GpuList {
  /** "580.159.04" */
  driver: string;
  gpus: Gpu[];
}

/** What a process has on one GPU. */
export interface GpuUse {
  /** Its UUID. */
  gpu: string;
  pid: number;
  bytes: number;
}

/** A GPU at the checkpoint, and the one that takes its place. */
export interface GpuPair {
  from: string;
  to: string;
}

/** A character device of a GPU or of the driver. */
export interface GpuDevice {
  /** Below /dev. */
  name: string;
  major: number;
  minor: number;
}

/** Every call has a deadline, rejects with a CudaError, and leaves the process as the driver leaves it. */
export interface CudaDriver {
  state(pid: number): Promise<ProcessState>;
  /** Answers for a stopped process too, unlike all others. */
  restoreThread(pid: number): Promise<number>;
  lock(pid: number, timeoutMs: number): Promise<void>;
  checkpoint(pid: number): Promise<void>;
  /** Within its own deadline, or a shorter one. */
  restore(pid: number, pairs: readonly GpuPair[], deadlineMs?: number): Promise<void>;
  unlock(pid: number): Promise<void>;
  /** Makes /dev/<name> in the container of the process; not the driver's work, but needed before it. */
  makeDevice(pid: number, device: GpuDevice): Promise<void>;
  gpus(): Promise<GpuList>;
  /** Every process of this node that computes on a GPU; one that has several is there for each. */
  use(): Promise<GpuUse[]>;
}
