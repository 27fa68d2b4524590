/** Mounts what a snapshotter answered, as containerd does. */
import { mkdirSync } from 'node:fs';
import { native } from '../../native/index.ts';
import type { Mount } from '../../snapshotter/overlay/index.ts';

const MS_RDONLY = 1;
const MS_REMOUNT = 32;
const MS_BIND = 4096;
const MS_REC = 16384;
const MNT_DETACH = 2;

export function mountAll(mounts: readonly Mount[], target: string): void {
  mkdirSync(target, { recursive: true });
  for (const mount of mounts) mountOne(mount, target);
}

export function unmount(target: string): void {
  native.umount(target, MNT_DETACH);
}

/** Runs `work` on the mounted file system and unmounts it whatever happens. */
export async function withMounts<T>(
  mounts: readonly Mount[],
  target: string,
  work: (root: string) => T | Promise<T>,
): Promise<T> {
  mountAll(mounts, target);
  try {
    return await work(target);
  } finally {
    unmount(target);
  }
}

function mountOne({ type, source, options }: Mount, target: string): void {
  if (type === 'bind') {
    native.mount(source, target, '', MS_BIND | MS_REC, '');
    // A bind mount takes no other flag; read-only is a second step.
    if (options.includes('ro')) native.mount('', target, '', MS_BIND | MS_REMOUNT | MS_RDONLY, '');
    return;
  }
  const value = (name: string) =>
    options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
  const named = ['lowerdir', 'upperdir', 'workdir'];
  native.mountOverlay(
    target,
    (value('lowerdir') ?? '').split(':'),
    value('upperdir') ?? '',
    value('workdir') ?? '',
    options.filter((option) => !named.some((name) => option.startsWith(`${name}=`))),
  );
}
