/** A restore by thaw, as a kubelet asks for it: StartContainer in a pod whose sandbox is there. */
import { Code } from '../../../proto/status.ts';
import { BenchError } from '../error.ts';
import type { Bed, Saved } from './bed.ts';
import { carryOut, check, type Plan, type Restored, type Restorer } from './restored.ts';
import { cgroupOf, readSpec } from './spec.ts';

export const thaw: Restorer = {
  async run(bed: Bed, saved: Saved, plan: Plan): Promise<Restored> {
    // A cold start would be a number without a meaning.
    const annotations = { 'thaw.dev/restore': 'require' };
    const pod = await bed.node.createPod({ image: saved.image, command: saved.command, annotations });
    try {
      const { containerId } = pod;
      const restored = await carryOut(
        {
          rootfs: bed.rootfs(containerId),
          cgroup: cgroupOf(await readSpec(bed, containerId)),
          start: () => bed.node.cri.startContainer(containerId),
        },
        plan,
      );
      check(restored, saved.answers);
      return restored;
    } finally {
      await bed.node.removePod(pod);
    }
  },
};

/** The same, and the bytes that came because the process waited for them. */
export async function thawWithFaults(
  bed: Bed,
  saved: Saved,
  plan: Plan,
): Promise<Restored & { faultBytes: number }> {
  const before = bed.node.shimLog().length;
  const restored = await thaw.run(bed, saved, plan);
  return { ...restored, faultBytes: parseFaultBytes(bed.node.shimLog().slice(before)) };
}

/** Out of what the shim says once nothing is left to bring, at the latest when the process has ended. */
export function parseFaultBytes(log: string): number {
  const found = /"faultBytes":(\d+)/.exec(log)?.[1];
  if (found === undefined)
    throw new BenchError(Code.failedPrecondition, 'The shim has not said how much memory came by faults');
  return Number(found);
}
