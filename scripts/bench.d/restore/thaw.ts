/** A restore by thaw, as a kubelet asks for it: StartContainer in a pod whose sandbox is there. */
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
