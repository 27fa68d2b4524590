/** One of containerd's mounts, with what mount(8) and containerd do for some of them: loop devices, mapped users. */
import { closeSync, mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Addon } from '../../native/index.ts';
import type { Mount } from '../task/start-plan.ts';
import { flagNames, MS_RDONLY, type OverlayLayout, overlayLayout, parseMountOptions } from './options.ts';

export type MountCalls = Pick<
  Addon,
  'mount' | 'umount' | 'mountOverlay' | 'loopAttach' | 'userNamespace' | 'mountMapped'
>;

/**
 * mount(2) copies at most one page of data, and CRIU reads at most 4096 bytes of a line of mountinfo, which has the mount
 * point too: a longer overlay needs the newer calls.
 */
const LONGEST_DATA = 3500;
const MNT_DETACH = 2;

/** @param scratch a directory that need not be there yet, for mounts that are gone when this returns. */
export function mountOne(mount: Mount, target: string, scratch: string, calls: MountCalls): void {
  const options = parseMountOptions(mount.options);
  const held: number[] = [];
  try {
    let users: number | undefined;
    if (options.idMap) {
      users = calls.userNamespace(options.idMap.users, options.idMap.groups);
      held.push(users);
    }
    let source = mount.source;
    if (options.loop) {
      const loop = calls.loopAttach(source, (options.flags & MS_RDONLY) !== 0);
      held.push(loop.fd);
      source = loop.device;
    }
    const text = options.data.join(',');
    const overlay = () => {
      const layout = overlayLayout(options.data);
      return { ...layout, rest: [...layout.rest, ...flagNames(options.flags)] };
    };
    if (mount.type === 'overlay' && users !== undefined) {
      mountMappedOverlay(overlay(), target, users, scratch, calls);
    } else if (mount.type === 'overlay' && text.length >= LONGEST_DATA) {
      const { lower, upper, work, rest } = overlay();
      calls.mountOverlay(target, lower, upper, work, rest);
    } else {
      // The type of a bind mount is ignored by the kernel, and "bind" is no file system.
      calls.mount(source, target, mount.type, options.flags, text);
      if (options.remount) calls.mount('', target, '', options.remount, '');
      if (users !== undefined) calls.mountMapped(target, target, users);
    }
    if (options.propagation) calls.mount('', target, '', options.propagation, '');
  } finally {
    for (const fd of held) closeSync(fd);
  }
}

/**
 * An overlay cannot map users itself, but takes layers that are mapped mounts; what is written goes to a directory that
 * belongs to the mapped users already. The overlay keeps copies of the layers' mounts of its own (ovl_get_layers), so those
 * here go again at once.
 */
function mountMappedOverlay(
  { lower, upper, work, rest }: OverlayLayout,
  target: string,
  users: number,
  scratch: string,
  calls: MountCalls,
): void {
  const mapped: string[] = [];
  try {
    for (const [index, layer] of lower.entries()) {
      const place = join(scratch, String(index));
      mkdirSync(place, { recursive: true, mode: 0o700 });
      mapped.push(place);
      calls.mountMapped(layer, place, users);
    }
    calls.mountOverlay(target, mapped, upper, work, rest);
  } finally {
    // What cannot be taken away is the bundle's: `delete` unmounts what it finds there, and containerd removes the rest.
    for (const place of mapped) takeAway(place, calls);
    quietly(() => rmdirSync(scratch));
  }
}

function takeAway(place: string, calls: MountCalls): void {
  quietly(() => calls.umount(place, MNT_DETACH));
  quietly(() => rmdirSync(place));
}

/** A failure here must not hide the one that matters. */
function quietly(work: () => void): void {
  try {
    work();
  } catch {
    // not mounted, or not made: that is what failed
  }
}
