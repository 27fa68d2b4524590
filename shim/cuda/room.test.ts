import { expect, it } from 'vitest';
import { availableMemory, freeOf, memoryCgroups, refuseLack } from './room.ts';

const MIB = 1 << 20;

it('reads what the node has', () => {
  expect(availableMemory('MemTotal: 5 kB\nMemAvailable:   2048 kB\n')).toBe(2 * MIB);
  expect(availableMemory('')).toBeUndefined();
});

it('looks at every cgroup above the process', () => {
  expect(memoryCgroups('0::/kubepods/pod1/c1\n')).toEqual({
    version: 'v2',
    dirs: ['/sys/fs/cgroup/kubepods/pod1/c1', '/sys/fs/cgroup/kubepods/pod1', '/sys/fs/cgroup/kubepods'],
  });
  expect(memoryCgroups('3:cpu,memory:/a\n0::/\n')).toEqual({
    version: 'v1',
    dirs: ['/sys/fs/cgroup/memory/a'],
  });
});

it('counts what the kernel can drop as free', () => {
  expect(freeOf('100\n', '70\n', 'anon 60\ninactive_file 10\n')).toBe(40);
  expect(freeOf('max\n', '70\n', '')).toBeUndefined();
  expect(freeOf('', '', '')).toBeUndefined();
});

it('refuses what does not fit, by the name of the limit', () => {
  const limits = [
    { of: 'this node', freeBytes: 1000 * MIB },
    { of: 'the memory limit of /x', freeBytes: 200 * MIB },
  ];
  expect(() => refuseLack(100 * MIB, limits)).not.toThrow();
  expect(() => refuseLack(200 * MIB, limits)).toThrow(
    /Cannot take 200 MiB off the GPU: the memory limit of \/x has room/,
  );
});
