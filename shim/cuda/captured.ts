/** Whether what was on the GPU is in the memory of its processes: the driver's word is not all that there is to go by. */
import { readFile } from 'node:fs/promises';
import { Code } from '../../proto/status.ts';
import { CudaError } from './error.ts';

/** Of what NVML counts: a context alone has 0.5 GB on an H100 (driver 580), and not all of it is worth saving. */
const CONTEXT_BYTES = 2 ** 30;

/** Resident and swapped bytes of /proc/PID/status, without those of files. Source: proc_pid_status(5). */
export function memoryOf(status: string): number {
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0);
  return (kib('RssAnon') + kib('RssShmem') + kib('VmSwap')) * 1024;
}

/** Of all these processes; one that is gone has none. */
export async function memoryOfAll(pids: readonly number[]): Promise<number> {
  const all = await Promise.all(
    pids.map(async (pid) => memoryOf(await readFile(`/proc/${pid}/status`, 'utf8').catch(() => ''))),
  );
  return all.reduce((sum, bytes) => sum + bytes, 0);
}

/** At least half of what they had on GPUs besides their contexts has to have come to the host. */
export function expectCaptured(gpuBytes: number, grownBytes: number, processes: number): void {
  const least = (gpuBytes - processes * CONTEXT_BYTES) / 2;
  if (grownBytes >= least) return;
  const mib = (bytes: number) => `${Math.max(0, Math.round(bytes / 2 ** 20))} MiB`;
  throw new CudaError(
    Code.internal,
    `The NVIDIA driver says that all is off the GPU, but of ${mib(gpuBytes)} there ${mib(grownBytes)} have come to the memory of the processes`,
  );
}
