/** The OCI spec that containerd made for a container, as far as the benches look at it. */
import { Code } from '../../../proto/status.ts';
import { BenchError } from '../error.ts';
import type { Bed } from './bed.ts';

export interface Spec {
  root: { path: string };
  linux: { cgroupsPath?: string };
  annotations?: Record<string, string>;
}

export async function readSpec(bed: Bed, containerId: string): Promise<Spec> {
  const { spec } = await bed.client.containers.get(containerId);
  return JSON.parse(spec.toString()) as Spec;
}

export function cgroupOf({ linux }: Spec): string {
  if (linux.cgroupsPath === undefined)
    throw new BenchError(Code.internal, "The container's spec names no cgroup");
  return linux.cgroupsPath;
}
