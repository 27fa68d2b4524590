import { type Finding, failed, ok, warning } from './finding.ts';
import type { DaemonConfig, Machine } from './machine.ts';

const GIB = 1n << 30n;
/** The kubelet begins to remove images at 15 % (imagefs.available). */
const LOW_PERCENT = 15n;

export async function checkDisk(machine: Machine, { root }: DaemonConfig): Promise<Finding[]> {
  const trouble = await machine.tryOverlay(root);
  const fileSystem =
    trouble === undefined
      ? ok('file system', `overlay works on ${root}`)
      : failed(
          'file system',
          `overlay does not work on ${root}: ${trouble}`,
          'put root on ext4, or on XFS made with ftype=1',
        );
  return [fileSystem, await checkSpace(machine, root)];
}

async function checkSpace(machine: Machine, root: string): Promise<Finding> {
  const check = 'disk space';
  const { totalBytes, freeBytes, totalInodes, freeInodes } = await machine.diskSpace(root);
  const share = percent(freeBytes, totalBytes);
  const inodes = totalInodes === 0n ? 100n : percent(freeInodes, totalInodes);
  const found = `${share} % free at ${root} (${freeBytes / GIB} GiB), ${inodes} % of the inodes`;
  const mend =
    'remove images ("crictl rmi --prune"), bound the node cache with cache.max_bytes, or use a larger disk';
  if (share < 1n || inodes < 1n) return failed(check, found, mend);
  return share < LOW_PERCENT || inodes < LOW_PERCENT ? warning(check, found, mend) : ok(check, found);
}

function percent(part: bigint, whole: bigint): bigint {
  return whole === 0n ? 0n : (part * 100n) / whole;
}
