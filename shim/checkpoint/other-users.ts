/**
 * Processes of other users. CRIU reads the resource limits of each process with prlimit(2), for which the kernel wants the same
 * user and group, or CAP_SYS_RESOURCE: what containerd was started without, CRIU has not.
 */
import { readFile } from 'node:fs/promises';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import { procTree, treeOf } from '../process/process-tree.ts';

/** CAP_SYS_RESOURCE of linux/capability.h. */
const SYS_RESOURCE = 24n;

/** Rejects for a container that cannot be saved, before anything of it stands still. */
export async function checkUsers(root: number): Promise<void> {
  const own = await readFile('/proc/self/status', 'utf8');
  if (hasSysResource(own)) return;
  for (const pid of await treeOf(root, procTree)) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => undefined);
    const user = status === undefined ? undefined : otherUser(own, status);
    if (user === undefined) continue;
    throw new ShimError(
      Code.failedPrecondition,
      `Cannot save process ${pid}: it runs as ${user}, and CRIU may read the limits of other users' processes only with CAP_SYS_RESOURCE, which containerd does not have on this node. Start containerd with all capabilities`,
    );
  }
}

/** `status`: content of /proc/PID/status. */
export function hasSysResource(status: string): boolean {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return ((effective >> SYS_RESOURCE) & 1n) === 1n;
}

/** In words, if the second is of another user or group than the first; undefined if it is not, or is ending. */
export function otherUser(own: string, status: string): string | undefined {
  // The real ids of the one that asks, against all but the last (file-system) id of the other.
  const [uid, gid] = [idsOf(own, 'Uid')[0], idsOf(own, 'Gid')[0]];
  const user = idsOf(status, 'Uid').find((id) => id !== uid);
  const group = idsOf(status, 'Gid').find((id) => id !== gid);
  if (/^State:\s*[ZX]/m.test(status) || (user === undefined && group === undefined)) return undefined;
  return user === undefined ? `group ${group}` : `user ${user}`;
}

function idsOf(status: string, name: 'Uid' | 'Gid'): number[] {
  const ids = new RegExp(`^${name}:(.*)$`, 'm').exec(status)?.[1] ?? '';
  return ids.split(/\s+/).filter(Boolean).slice(0, 3).map(Number);
}
