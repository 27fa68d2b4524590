import { describe, expect, it } from 'vitest';
import { cgroupMounts, placeOf } from './locate.ts';

const hybrid = `\
24 30 0:22 / /proc rw,relatime shared:14 - proc proc rw
25 30 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,size=4096k
26 25 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
27 25 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
28 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
29 25 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:16 - cgroup cgroup rw,memory
30 25 0:32 / /sys/fs/cgroup/with\\040space rw - cgroup cgroup rw,devices`;
const unified =
  '30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot';
/** As in a container that got the host's hierarchies bind-mounted. */
const bound = `\
40 39 0:31 /docker/outer /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
41 39 0:32 / /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids`;

const dirs = (place: ReturnType<typeof placeOf>) =>
  place?.version === 'v1' ? Object.fromEntries(place.dirs) : place;

describe('placeOf', () => {
  it('finds every controller of v1, also those that share a hierarchy, beside an empty unified one', () => {
    const text =
      '7:cpu,cpuacct:/k/c\n6:devices:/k/c\n5:memory:/k/c\n1:name=systemd:/k/c\n3:misc:/k/c\n0::/k/u\n';
    expect(dirs(placeOf(text, cgroupMounts(hybrid), '/k/c'))).toEqual({
      cpu: '/sys/fs/cgroup/cpu,cpuacct/k/c',
      cpuacct: '/sys/fs/cgroup/cpu,cpuacct/k/c',
      devices: '/sys/fs/cgroup/with space/k/c',
      memory: '/sys/fs/cgroup/memory/k/c',
      'name=systemd': '/sys/fs/cgroup/systemd/k/c',
    });
  });

  it('finds the one directory of v2', () => {
    expect(placeOf('0::/default/c\n', cgroupMounts(unified), '/default/c')).toEqual({
      version: 'v2',
      dir: '/sys/fs/cgroup/default/c',
      mount: '/sys/fs/cgroup',
    });
  });

  it('cuts off what the container made below its own', () => {
    const place = (path: string, cgroupsPath: string | undefined) =>
      dirs(placeOf(`0::${path}\n`, cgroupMounts(unified), cgroupsPath));
    const of = (path: string) => ({ version: 'v2', dir: `/sys/fs/cgroup${path}`, mount: '/sys/fs/cgroup' });
    expect(place('/default/c/init.scope/x', '/default/c')).toEqual(of('/default/c'));
    expect(place('/default/cc', '/default/c')).toEqual(of('/default/cc'));
    const scope = '/kubepods.slice/kubepods-podx.slice/cri-containerd-abc.scope';
    expect(place(`${scope}/init.scope`, 'kubepods-podx.slice:cri-containerd:abc')).toEqual(of(scope));
    expect(place('/user.slice/abc.scope/sub', 'user.slice::abc')).toEqual(of('/user.slice/abc.scope'));
    expect(place('/a/b', undefined)).toEqual(of('/a/b'));
  });

  it('follows the root of a bind-mounted hierarchy, and skips what lies outside', () => {
    expect(dirs(placeOf('2:memory:/docker/outer/in\n3:pids:/p\n', cgroupMounts(bound), undefined))).toEqual({
      memory: '/sys/fs/cgroup/memory/in',
      pids: '/sys/fs/cgroup/pids/p',
    });
    expect(placeOf('2:memory:/docker/other/in\n', cgroupMounts(bound), undefined)).toBeUndefined();
    expect(placeOf('2:memory:/docker/outer\n', cgroupMounts(bound), undefined)).toBeUndefined();
  });

  it('takes neither the root, which v1 says of an exiting process, nor a removed cgroup for a container', () => {
    expect(placeOf('5:memory:/\n0::/\n', cgroupMounts(hybrid), '/k/c')).toBeUndefined();
    expect(placeOf('0::/\n', cgroupMounts(unified), '/k/c')).toBeUndefined();
    expect(placeOf('0::/k/c (deleted)\n', cgroupMounts(unified), '/k/c')).toBeUndefined();
    expect(placeOf('', cgroupMounts(hybrid), '/k/c')).toBeUndefined();
  });
});
