/**
 * Which processes of a container use CUDA. Whoever has the driver's library mapped or one of its devices open is looked
 * at; whether it is a CUDA process the driver says. Its answer to "which state?" alone is not asked: it is never given
 * for a stopped process, and given for launchers that have nothing to save.
 */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { Code } from '../../proto/status.ts';
import { innerPid, procTree, treeOf } from '../process/process-tree.ts';
import type { CudaDriver } from './driver.ts';
import { CudaError } from './error.ts';
import { Result, resultOf } from './results.ts';

export interface Traces {
  pid: number;
  /** As in the images. */
  innerPid: number;
  library: boolean;
  devices: boolean;
  isStopped: boolean;
}

const DEVICE = /^\/dev\/nvidia/;
const LIBRARY = /\/libcuda\.so[^/]*$/;

export function hasLibrary(maps: string): boolean {
  return maps.split('\n').some((line) => LIBRARY.test(line));
}

/** Mappings of GPU memory and registers are of the device too. */
export function hasDevices(maps: string, links: readonly string[]): boolean {
  return (
    links.some((link) => DEVICE.test(link)) || maps.split('\n').some((line) => /\s\/dev\/nvidia/.test(line))
  );
}

/** The state letter of /proc/PID/stat: T is stopped, t traced. The name before it may hold anything. */
export function isStopped(stat: string): boolean {
  return /^[Tt] /.test(stat.slice(stat.lastIndexOf(')') + 2));
}

export async function gpuTraces(init: number): Promise<Traces[]> {
  const found = await Promise.all((await treeOf(init, procTree)).map(tracesOf));
  return found.filter((traces): traces is Traces => traces !== undefined);
}

async function tracesOf(pid: number): Promise<Traces | undefined> {
  const [maps, stat, links] = await Promise.all([
    readFile(`/proc/${pid}/maps`, 'utf8').catch(() => ''),
    readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ''),
    linksOf(pid),
  ]);
  const library = hasLibrary(maps);
  const devices = hasDevices(maps, links);
  if (!library && !devices) return undefined;
  const inner = await innerPid(pid);
  return inner === undefined
    ? undefined
    : { pid, innerPid: inner, library, devices, isStopped: isStopped(stat) };
}

/** What its file descriptors are; empty if it is gone. */
export async function linksOf(pid: number): Promise<string[]> {
  const names = await readdir(`/proc/${pid}/fd`).catch(() => []);
  return Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')));
}

/** Those that have GPU state to save. Rejects where one uses the GPU in a way that nobody can save. */
export async function cudaProcesses(traces: readonly Traces[], driver: CudaDriver): Promise<Traces[]> {
  const found: Traces[] = [];
  for (const one of traces) {
    if (await isCuda(one, driver)) found.push(one);
    else if (one.devices)
      throw new CudaError(
        Code.failedPrecondition,
        `Cannot checkpoint process ${one.innerPid}: it uses the GPU without CUDA (NVML, OpenGL or Vulkan), which nothing can save`,
      );
  }
  const stopped = found.find((one) => one.isStopped);
  if (stopped)
    throw new CudaError(
      Code.failedPrecondition,
      `Cannot checkpoint process ${stopped.innerPid}: it is stopped, and the NVIDIA driver needs it to run; send it SIGCONT first`,
    );
  return found;
}

async function isCuda({ pid, library }: Traces, driver: CudaDriver): Promise<boolean> {
  if (!library) return false;
  try {
    await driver.restoreThread(pid);
    return true;
  } catch (error) {
    // Mapped and never initialised, or gone since.
    const result = resultOf(error);
    if (result === Result.notInitialized || result === Result.operatingSystem) return false;
    throw error;
  }
}

/** Refuses to go on while a device is still open: CRIU could not dump it. */
export async function expectNoDevices(pids: readonly number[]): Promise<void> {
  for (const pid of pids)
    if ((await tracesOf(pid))?.devices)
      throw new CudaError(
        Code.failedPrecondition,
        `Process ${pid} keeps a device of the GPU open after its checkpoint: it uses the GPU in a way that the driver cannot save`,
      );
}

/** The processes of the restored tree that have these pids inside. */
export async function outerPids(init: number, innerPids: readonly number[]): Promise<number[]> {
  const known = new Map<number, number>();
  for (const pid of await treeOf(init, procTree)) {
    const inner = await innerPid(pid);
    if (inner !== undefined) known.set(inner, pid);
  }
  return innerPids.map((inner) => {
    const pid = known.get(inner);
    if (pid === undefined)
      throw new CudaError(
        Code.dataLoss,
        `The restored container lacks process ${inner}, which has GPU state`,
      );
    return pid;
  });
}
