/** Options of every overlay mount, by what the kernel knows and needs. Source: containerd, plugins/snapshots/overlay. */
import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';

export interface Kernel {
  /** Overlay has the module parameter `index`. */
  hasIndex: boolean;
  /** Text of /proc/self/uid_map. */
  uidMap: string;
  /** As uname(2) has it: "6.1.0-13-amd64". */
  release: string;
}

/**
 * `index=off`: the inode index would refuse a lower directory that is in use under another upper one. `userxattr`: in a
 * user namespace trusted.* attributes cannot be written, so overlay must keep its own as user.* (Linux 5.11 and later).
 */
export function overlayOptions({ hasIndex, uidMap, release }: Kernel): string[] {
  const options: string[] = [];
  if (hasIndex) options.push('index=off');
  if (inUserNamespace(uidMap) && atLeast(release, 5, 11)) options.push('userxattr');
  return options;
}

/**
 * `volatile`: no flush of a container reaches the disk (Linux 5.10 and later). overlayfs mounts such directories only once,
 * as after a crash nobody knows what is in them.
 */
export function writableOptions(
  wanted: { volatile: boolean },
  { release }: Pick<Kernel, 'release'>,
): string[] {
  return wanted.volatile && atLeast(release, 5, 10) ? ['volatile'] : [];
}

export function thisKernel(): Kernel {
  return {
    hasIndex: existsSync('/sys/module/overlay/parameters/index'),
    uidMap: readFileSync('/proc/self/uid_map', 'utf8'),
    release: release(),
  };
}

/** The first namespace maps every id to itself. */
function inUserNamespace(uidMap: string): boolean {
  return uidMap.trim().split(/\s+/).join(' ') !== '0 0 4294967295';
}

function atLeast(release: string, major: number, minor: number): boolean {
  const [found = 0, foundMinor = 0] = release.split(/[.-]/, 2).map(Number);
  return found > major || (found === major && foundMinor >= minor);
}
