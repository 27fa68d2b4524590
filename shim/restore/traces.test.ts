import { mkdir, mkdtemp, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  cgroupDirs,
  cgroupMounts,
  criuTempDirs,
  removeCgroup,
  removeMountedDir,
  unmountCgroupYard,
} from './traces.ts';

const mountinfo = [
  '22 1 0:20 / / rw - ext4 /dev/vda rw',
  '30 22 0:30 / /sys/fs/cgroup/memory rw - cgroup memory rw,memory',
  '31 22 0:31 / /sys/fs/cgroup/name\\040d rw - cgroup systemd rw',
  '32 22 0:32 / /run/criu-root rw - overlay overlay rw',
  '33 32 0:33 / /run/criu-root/proc rw - proc proc rw',
].join('\n');

it('finds the cgroup hierarchies', () => {
  expect(cgroupMounts(mountinfo)).toEqual(['/sys/fs/cgroup/memory', '/sys/fs/cgroup/name d']);
});

it.each([
  ['/k8s.io/abc', ['/cg/k8s.io/abc']],
  ['/', []],
  ['', []],
  [undefined, []],
  ['relative/path', []],
  ['/a/../..', []],
  ['system.slice:cri-containerd:abc', []],
])('cgroupDirs(%s)', (path, dirs) => {
  expect(cgroupDirs(path, ['/cg'])).toEqual(dirs);
});

it('takes CRIU’s temporary directories from its own log', () => {
  const log =
    'mnt: Will mount 88 @ /tmp/.criu.mntns.ErvitQ/mnt-0000000088 /proc/bus\n@ /tmp/.criu.mntns.ErvitQ/x';
  expect(criuTempDirs(log)).toEqual(['/tmp/.criu.mntns.ErvitQ']);
});

it('removeCgroup removes nested directories and accepts a missing one', async () => {
  const dir = join(await mkdtemp(join(tmpdir(), 'cg-')), 'c');
  await mkdir(join(dir, 'a/b'), { recursive: true });
  await removeCgroup(dir);
  await expect(stat(dir)).rejects.toThrow('ENOENT');
  await removeCgroup(dir);
});

it('unmounts innermost first', async () => {
  const gone: string[] = [];
  await removeMountedDir('/run/criu-root', {
    mountinfo: async () => mountinfo,
    umount: (target) => gone.push(target),
  });
  expect(gone).toEqual(['/run/criu-root/proc', '/run/criu-root']);
});

it('unmounts CRIU’s cgroups in a directory that is somebody’s own, and nothing else', async () => {
  const line = (point: string) => `30 22 0:30 / ${point} rw - cgroup cgroup rw`;
  const gone: string[] = [];
  await unmountCgroupYard('/mnt/criu', {
    mountinfo: async () =>
      ['', '/data', '/.criu.cgyard.Ab1', '/.criu.cgyard.Ab1/memory']
        .map((at) => line(`/mnt/criu${at}`))
        .join('\n'),
    umount: (target) => gone.push(target),
  });
  expect(gone).toEqual(['/mnt/criu/.criu.cgyard.Ab1/memory', '/mnt/criu/.criu.cgyard.Ab1']);
});
