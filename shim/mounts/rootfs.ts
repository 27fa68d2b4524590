/** Mounts a container's root file system from containerd's mounts and takes it away again. */
import { lstatSync, mkdirSync, readFileSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { Mount } from '../task/start-plan.ts';
import { type MountCalls, mountOne } from './mount-one.ts';
import { mountPointsBelow } from './mountinfo.ts';

const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const BUSY_TRIES = 5;
const BUSY_PAUSE_MS = 20;

/** Mounts all or nothing. `target` is made if it is missing; nothing is left in `scratch`. */
export async function mountRootfs(
  mounts: readonly Mount[],
  target: string,
  scratch: string,
  calls: MountCalls,
): Promise<void> {
  if (mounts.length === 0) return;
  mkdirSync(target, { recursive: true, mode: 0o711 });
  try {
    for (const mount of mounts) mountOne(mount, placeOf(mount, target), scratch, calls);
  } catch (cause) {
    await unmountRootfs(target, calls);
    if (cause instanceof ShimError) throw cause;
    const { message, code } = cause as NodeJS.ErrnoException;
    throw new ShimError(Code.unknown, `failed to mount rootfs component: ${message}`, {
      cause,
      context: { target, errno: code },
    });
  }
}

/** Unmounts everything at and below `target`. Nothing mounted there, or no such directory, is a success. */
export async function unmountRootfs(target: string, calls: Pick<MountCalls, 'umount'>): Promise<void> {
  for (;;) {
    const outcome = umount(target, UMOUNT_NOFOLLOW, calls);
    if (outcome === 'not-mounted') return;
    if (outcome === 'busy') break;
  }
  const points = mountPointsBelow(readFileSync('/proc/self/mountinfo', 'utf8'), target);
  for (const point of points.reverse()) await unmountBusy(point, calls);
}

async function unmountBusy(point: string, calls: Pick<MountCalls, 'umount'>): Promise<void> {
  for (let attempt = 0; attempt < BUSY_TRIES; attempt += 1) {
    if (umount(point, UMOUNT_NOFOLLOW, calls) !== 'busy') return;
    await new Promise((resolve) => setTimeout(resolve, BUSY_PAUSE_MS));
  }
  // A process that is just ending may still be in there; the mount goes when it does.
  umount(point, UMOUNT_NOFOLLOW | MNT_DETACH, calls);
}

function umount(
  target: string,
  flags: number,
  calls: Pick<MountCalls, 'umount'>,
): 'done' | 'not-mounted' | 'busy' {
  try {
    calls.umount(target, flags);
    return 'done';
  } catch (error) {
    switch ((error as NodeJS.ErrnoException).code) {
      case 'EINVAL':
      case 'ENOENT':
        return 'not-mounted';
      case 'EBUSY':
        return 'busy';
      default:
        throw error;
    }
  }
}

/** Where a mount goes. A path below the root must not lead out of it: the image may hold links. */
function placeOf(mount: Mount, root: string): string {
  let place = root;
  for (const name of mount.target.split('/')) {
    if (name === '' || name === '.') continue;
    place = join(place, name);
    const info = name === '..' ? undefined : infoOf(place);
    if (!info || info.isSymbolicLink())
      throw new ShimError(Code.invalidArgument, `Cannot mount on "${mount.target}" in the root file system`);
  }
  return place;
}

function infoOf(place: string): Stats | undefined {
  try {
    return lstatSync(place);
  } catch {
    return undefined;
  }
}
