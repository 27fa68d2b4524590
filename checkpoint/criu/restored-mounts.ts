/** What a restore mounts in a container's mount namespace. */
import { criu } from '../../proto/gen/criu-rights.js';
import { decodeMessage, optional } from './decode.ts';
import { broken, Magic, readMessages } from './framing.ts';
import type { ImageDir } from './image-dir.ts';

export interface RestoredMount {
  id: number;
  parentId: number;
  /** From the container's root. */
  mountpoint: string;
  /** Directory of the mounted file system that is seen there. */
  root: string;
  fstype: FsType | undefined;
  /** What the caller of the restore puts there goes by this name; undefined where CRIU mounts by itself. */
  externalKey: string | undefined;
  /** MountFlag bits; of an external mount without those of its file system, which CRIU leaves as it finds it. */
  flags: number;
  /** Left to a plug-in of CRIU. */
  withPlugin: boolean;
}

/** MS_* of sys/mount.h that take something away. */
export const MountFlag = { readOnly: 1, noSuid: 2, noDev: 4, noExec: 8 } as const;

/** CRIU's numbers of the kinds that it mounts by itself and that a container may have. Source: mnt.proto. */
const FS_TYPES = {
  1: 'proc',
  2: 'sysfs',
  5: 'tmpfs',
  6: 'devpts',
  12: 'cgroup',
  14: 'mqueue',
  17: 'overlay',
  23: 'cgroup2',
} as const;
export type FsType = (typeof FS_TYPES)[keyof typeof FS_TYPES];

const MAX_BYTES = 4 << 20;

export async function readRestoredMounts(
  images: ImageDir,
  names: readonly string[],
): Promise<RestoredMount[]> {
  const mounts: RestoredMount[] = [];
  const tables = names.filter((name) => /^mountpoints-\d+\.img$/.test(name));
  for await (const [name, bytes] of images.readAll(tables, MAX_BYTES))
    for (const message of readMessages(bytes, Magic.mountpoints, name))
      mounts.push(restoredMount(message, name));
  return mounts;
}

function restoredMount(message: Uint8Array, name: string): RestoredMount {
  const mount = decodeMessage(criu.Mount, message, name);
  const key = optional(mount, 'extKey') || undefined;
  // CRIU stops at this with an assertion.
  if (mount.extMount && key) throw broken(name, `the mount at ${mount.mountpoint} has two keys`);
  const externalKey = mount.extMount ? mount.root : key;
  return {
    id: mount.mntId,
    parentId: mount.parentMntId,
    mountpoint: mount.mountpoint.replace(/^\.(?=\/)/, '').replace(/^\.?$/, '/'),
    root: mount.root,
    fstype: (FS_TYPES as Record<number, FsType>)[mount.fstype],
    externalKey,
    flags: externalKey === undefined ? mount.flags | (optional(mount, 'sbFlags') ?? 0) : mount.flags,
    withPlugin: mount.withPlugin === true,
  };
}
