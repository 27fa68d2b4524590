/** Which GPUs a container has, and whether a checkpoint's can be replaced by them. Pure. */
import type { DumpFacts } from '../../checkpoint/facts.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import type { Gpu, GpuDevice, GpuList, GpuPair } from './driver.ts';

export type CudaFacts = NonNullable<DumpFacts['cuda']>;

/** Of /dev/nvidia<minor>. Source: Documentation/admin-guide/devices.txt. */
const MAJOR = 195;
const LARGEST_MINOR = 254;
const DEVICE = /^\/dev\/nvidia(\d+)$/;

/** The container's own, by the devices and bind mounts of its spec; all of the node's where those name none (privileged). */
export function visibleGpus(spec: Pick<OciSpec, 'linux' | 'mounts'>, gpus: readonly Gpu[]): Gpu[] {
  const minors = new Set<number>();
  for (const device of spec.linux?.devices ?? []) {
    const named = DEVICE.exec(device.path)?.[1];
    if (device.major === MAJOR && device.minor !== undefined && device.minor <= LARGEST_MINOR)
      minors.add(device.minor);
    else if (device.major === undefined && named !== undefined) minors.add(Number(named));
  }
  for (const mount of spec.mounts ?? []) {
    const named = DEVICE.exec(mount.source ?? '')?.[1];
    if (named !== undefined) minors.add(Number(named));
  }
  return minors.size === 0 ? [...gpus] : gpus.filter(({ minor }) => minors.has(minor));
}

/** The devices of GPUs and of the driver that the spec gives the container, directly below /dev. */
export function gpuDevices(spec: Pick<OciSpec, 'linux'>): GpuDevice[] {
  return (spec.linux?.devices ?? []).flatMap(({ path, major, minor }) => {
    const name = /^\/dev\/(nvidia[a-z0-9-]*)$/.exec(path)?.[1];
    return name === undefined || major === undefined || minor === undefined ? [] : [{ name, major, minor }];
  });
}

/** Why the driver cannot save what is on these GPUs. */
export function unsupported(gpus: readonly Gpu[]): string | undefined {
  if (gpus.some(({ mig }) => mig))
    return 'a GPU is divided by MIG, which the driver cannot save; switch MIG off';
  if (gpus.some(({ vgpu }) => vgpu)) return 'a GPU is virtual (vGPU), which the driver cannot save';
  return undefined;
}

/** Every reason why a checkpoint with GPU state cannot run on the container's GPUs. */
export function gpuDifferences(saved: CudaFacts, live: GpuList): string[] {
  const out: string[] = [];
  const problem = unsupported(live.gpus);
  if (problem) out.push(problem);
  // The saved process has the driver's own library in memory, and the kernel's half refuses one of another version.
  if (saved.driver !== live.driver)
    out.push(`the checkpoint was made with NVIDIA driver ${saved.driver}, this node has ${live.driver}`);
  if (saved.gpus.length !== live.gpus.length)
    return [
      ...out,
      `the checkpoint has ${count(saved.gpus.length)}, the container ${count(live.gpus.length)}`,
    ];
  for (const [was, is] of matched(saved, live.gpus)) {
    if (was.name !== is.name)
      out.push(`the checkpoint was made on ${was.name}, the container has ${is.name}`);
    else if (was.memoryBytes > is.memoryBytes)
      out.push(
        `the GPU ${is.uuid} has ${is.memoryBytes} bytes of memory, that of the checkpoint had ${was.memoryBytes}`,
      );
  }
  return out;
}

/**
 * None where the checkpoint's GPUs are the container's: a map makes the driver migrate. Else one for every GPU of the
 * checkpoint, as the driver refuses a map that leaves one out: those that are here stay, the others follow in order.
 */
export function gpuPairs(saved: Pick<CudaFacts, 'gpus'>, live: readonly Gpu[]): GpuPair[] {
  const pairs = matched(saved, live).map(([was, is]) => ({ from: was.uuid, to: is.uuid }));
  return pairs.every(({ from, to }) => from === to) ? [] : pairs;
}

function matched(saved: Pick<CudaFacts, 'gpus'>, live: readonly Gpu[]): [CudaFacts['gpus'][number], Gpu][] {
  const known = new Set(saved.gpus.map(({ uuid }) => uuid));
  const others = live.filter(({ uuid }) => !known.has(uuid));
  return saved.gpus.flatMap((was) => {
    const is = live.find(({ uuid }) => uuid === was.uuid) ?? others.shift();
    return is ? [[was, is] as [CudaFacts['gpus'][number], Gpu]] : [];
  });
}

function count(gpus: number): string {
  return gpus === 1 ? '1 GPU' : `${gpus} GPUs`;
}
