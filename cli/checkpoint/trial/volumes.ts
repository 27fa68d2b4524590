/**
 * What a trial sees in place of the source's volumes: what it writes is thrown away, so that a clone consumes no queue and
 * spoils no file.
 */
import { chmod, chown, copyFile, mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SHM_DESTINATION } from '../../../checkpoint/shm.ts';
import type { Addon } from '../../../native/index.ts';
import type { Cleanup } from '../../cleanup.ts';
import type { BindMount } from './spec.ts';

/** Files that are mounted by themselves are configuration (host names, the termination log). */
const LARGEST_FILE = 16 << 20;
/** mount(2) */
const MS_NOSUID = 2;
const MS_NODEV = 4;
/** umount2(2): what a killed process still has open goes with it. */
const MNT_DETACH = 2;

export type VolumeCalls = Pick<Addon, 'mount' | 'mountOverlay' | 'umount'>;

export type Volumes =
  | { kind: 'made'; sources: ReadonlyMap<string, string> }
  | { kind: 'impossible'; reason: string };

/** In memory below `dir`, as a root file system may be one that no overlay can write to. */
export async function throwAwayVolumes(
  binds: readonly BindMount[],
  dir: string,
  calls: VolumeCalls,
  cleanup: Cleanup,
): Promise<Volumes> {
  const sources = new Map<string, string>();
  const writable = binds.filter(({ readOnly }) => !readOnly);
  if (writable.length === 0) return { kind: 'made', sources };
  await mountAt(dir, cleanup, calls, () =>
    calls.mount('tmpfs', dir, 'tmpfs', MS_NOSUID | MS_NODEV, 'mode=0700'),
  );
  for (const [i, { destination, source }] of writable.entries()) {
    const info = await stat(source).catch(() => undefined);
    const copy = join(dir, String(i));
    if (info?.isDirectory() && destination === SHM_DESTINATION) {
      // Empty: the shim fills it from the dump, and the source goes on in its own.
      await mkdir(copy);
      await chown(copy, info.uid, info.gid);
      await chmod(copy, info.mode & 0o7777);
    } else if (info?.isDirectory()) {
      const [upper, work] = [join(dir, `${i}.upper`), join(dir, `${i}.work`)];
      // The root of an overlay has owner and mode of its upper directory.
      await mkdir(upper);
      await chown(upper, info.uid, info.gid);
      await chmod(upper, info.mode & 0o7777);
      await mkdir(work);
      await mountAt(copy, cleanup, calls, () => calls.mountOverlay(copy, [source], upper, work, []));
    } else if (info?.isFile() && info.size <= LARGEST_FILE) {
      await copyFile(source, copy);
      await chown(copy, info.uid, info.gid);
      await chmod(copy, info.mode & 0o7777);
    } else {
      return { kind: 'impossible', reason: `what is mounted at ${destination} cannot be copied` };
    }
    sources.set(destination, copy);
  }
  return { kind: 'made', sources };
}

async function mountAt(dir: string, cleanup: Cleanup, calls: VolumeCalls, mount: () => void): Promise<void> {
  await mkdir(dir, { mode: 0o700 });
  mount();
  cleanup.add(`unmount ${dir}`, async () => calls.umount(dir, MNT_DETACH));
}

/** Unmounts all below a directory; for whoever comes after a process that was killed. `mountinfo`: proc(5). */
export function unmountBelow(dir: string, mountinfo: string, calls: Pick<Addon, 'umount'>): void {
  const points = mountinfo.split('\n').flatMap((line) => line.split(' ')[4] ?? []);
  for (const point of points.reverse()) if (point.startsWith(`${dir}/`)) calls.umount(point, MNT_DETACH);
}
