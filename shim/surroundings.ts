/**
 * What CRIU makes anew as it was, where an ordinary start would follow the pod: what is hidden or read-only in /proc and
 * /sys, the nodes in /dev, and whether the root file system is read-only. So it must be the same. So must be what confines it:
 * CRIU gives a task the pod's label in the place of the one that it had, and none to a task without.
 */
import type { Surroundings } from '../checkpoint/facts.ts';
import { labelOf, lsmName } from './lsm.ts';
import type { OciSpec } from './task/oci-spec.ts';

/** A restore gives GPUs that are there now (shim/cuda). */
const GPU_DEVICE = /^\/dev\/nvidia/;

export function surroundingsOf(spec: OciSpec): Surroundings {
  const { root, linux } = spec;
  const sorted = (paths: readonly string[] | undefined) => [...new Set(paths ?? [])].sort();
  const devices = (linux?.devices ?? []).map(({ path }) => path).filter((path) => !GPU_DEVICE.test(path));
  return {
    maskedPaths: sorted(linux?.maskedPaths),
    readonlyPaths: sorted(linux?.readonlyPaths),
    devices: sorted(devices),
    readOnlyRoot: root?.readonly ?? false,
    lsm: labelOf(spec)?.lsm ?? 'none',
  };
}

/** One sentence for each kind of difference, in the user's words. */
export function surroundingDifferences(saved: Surroundings, live: Surroundings): string[] {
  const out: string[] = [];
  const compare = (was: readonly string[], is: readonly string[], then: string, now: string) => {
    const gone = was.filter((path) => !is.includes(path));
    const added = is.filter((path) => !was.includes(path));
    if (gone.length > 0) out.push(`${gone.join(', ')} ${then}`);
    if (added.length > 0) out.push(`${added.join(', ')} ${now}`);
  };
  compare(saved.maskedPaths, live.maskedPaths, 'was masked, and is not now', 'is masked now, and was not');
  const writable = ['was read-only, and is not now', 'is read-only now, and was not'] as const;
  compare(saved.readonlyPaths, live.readonlyPaths, ...writable);
  compare(saved.devices, live.devices, 'is a device that the pod does not have now', 'is a new device');
  if (saved.readOnlyRoot !== live.readOnlyRoot) {
    const access = (readOnly: boolean) => (readOnly ? 'read-only' : 'writable');
    out.push(
      `the root file system was ${access(saved.readOnlyRoot)}, now it is ${access(live.readOnlyRoot)}`,
    );
  }
  if (saved.lsm !== undefined && live.lsm !== undefined && saved.lsm !== live.lsm)
    out.push(`the checkpoint was made under ${lsmName(saved.lsm)}, the pod is under ${lsmName(live.lsm)}`);
  return out;
}
