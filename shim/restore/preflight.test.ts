import { describe, expect, it } from 'vitest';
import type { CheckpointFacts } from '../../checkpoint/facts.ts';
import { cgroupVersion, instructionSets, mountFacts } from '../../checkpoint/host-facts.ts';
import { wishesOf } from './policy.ts';
import { compareVersions, memoryLimitOf, namespaceObstacles, preflight } from './preflight.ts';

const launch = { args: ['/server'], cwd: '/', uid: 0, gid: 0, additionalGids: [], env: ['A=1'] };
const host = {
  arch: 'amd64',
  kernel: '6.18.0',
  cpuFlags: ['avx', 'avx2'],
  criu: '4.2',
  runc: '1.3.6',
  cgroup: 'v1' as const,
};
const mounts = [
  { destination: '/proc', type: 'proc', readOnly: false },
  { destination: '/etc/hosts', type: 'bind', readOnly: false },
];
const digest = `sha256:${'a'.repeat(64)}`;
const saved: CheckpointFacts = {
  formatVersion: 1,
  created: '2026-01-01T00:00:00Z',
  image: { reference: 'r', configDigest: digest },
  layers: { checkpoint: 2, base: [], diff: null },
  processes: [],
  memoryBytes: 0,
  annotations: {},
  launch,
  host,
  mounts,
};

describe('preflight', () => {
  it('passes the same pod on the same node, on another kernel and with more CPU features', () => {
    const live = {
      launch,
      host: { ...host, kernel: '6.19.1', cpuFlags: ['avx', 'avx2', 'avx512f'] },
      mounts,
    };
    expect(preflight(saved, live)).toEqual([]);
  });
  it('passes a newer CRIU', () => {
    expect(preflight(saved, { launch, host: { ...host, criu: '4.3' }, mounts })).toEqual([]);
  });
  it.each([
    [{ arch: 'arm64' }, /for amd64, this node is arm64/],
    [{ cpuFlags: ['avx'] }, /CPU lacks avx2/],
    [{ criu: '4.1.1' }, /CRIU 4.2, this node has the older 4.1.1/],
    [{ kernel: '6.17.9' }, /made on Linux 6.18.0, this node has the older 6.17.9/],
    [{ runc: '1.0.3' }, /needs runc 1.1, this node has 1.0.3/],
    [{ cgroup: 'v2' as const }, /cgroup v1, this node has v2/],
  ])('names %j', (change, message) => {
    const found = preflight(saved, { launch, host: { ...host, ...change }, mounts });
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(message);
  });
  it.each([
    [mounts.slice(0, 1), /nothing is mounted at \/etc\/hosts now/],
    [[...mounts, { destination: '/data', type: 'bind', readOnly: true }], /the mount at \/data is new/],
    [[mounts[0], { destination: '/etc/hosts', type: 'bind', readOnly: true }], /writable, now read-only/],
    [[mounts[0], { destination: '/etc/hosts', type: 'tmpfs', readOnly: false }], /was bind, now tmpfs/],
  ])('names the mount in %j', (changed, message) => {
    const found = preflight(saved, { launch, host, mounts: changed.filter((mount) => mount !== undefined) });
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(message);
  });
  it('names a CRIU that cannot restore on this kernel', () => {
    const older = { ...saved, host: { ...host, criu: '3.19' } };
    const found = (kernel: string) =>
      preflight(older, { launch, host: { ...host, kernel, criu: '3.19' }, mounts });
    expect(found('6.18.0-1-amd64')).toEqual(['Linux 6.18.0-1-amd64 needs CRIU 4.1.1, this node has 3.19']);
  });
  it('takes an older kernel where the pod says so', () => {
    const { except } = wishesOf({ annotations: { 'thaw.dev/restore-except': 'kernel' } });
    expect(preflight(saved, { launch, host: { ...host, kernel: '5.15.0' }, mounts, except })).toEqual([]);
  });
  it('names a memory limit below what the checkpoint holds', () => {
    const large = { ...saved, memoryBytes: 3 * 2 ** 20 };
    const found = (limit: number) => {
      const memoryLimit = memoryLimitOf({ linux: { resources: { memory: { limit } } } });
      return preflight(large, { launch, host, mounts, memoryLimit });
    };
    expect(found(2 * 2 ** 20)).toEqual([
      "the checkpoint has 3 MiB of memory, the container's limit is 2 MiB",
    ]);
    for (const enough of [3 * 2 ** 20, 0, -1]) expect(found(enough)).toEqual([]);
  });
  it('names what was hidden or read-only, unless the checkpoint does not say', () => {
    const surroundings = {
      maskedPaths: ['/proc/kcore'],
      readonlyPaths: [],
      devices: [],
      readOnlyRoot: false,
    };
    const live = { launch, host, mounts, surroundings: { ...surroundings, maskedPaths: [] } };
    expect(preflight({ ...saved, surroundings }, live)).toEqual(['/proc/kcore was masked, and is not now']);
    expect(preflight(saved, live)).toEqual([]);
  });
  it('reports every mismatch at once', () => {
    const live = { launch: { ...launch, args: ['/other'] }, host: { ...host, arch: 'arm64' }, mounts: [] };
    expect(preflight(saved, live)).toHaveLength(4);
  });
});

it.each([
  [[{ type: 'pid' }, { type: 'ipc', path: '/proc/1/ns/ipc' }], undefined],
  [[{ type: 'pid', path: '/proc/1/ns/pid' }, { type: 'ipc' }], /shareProcessNamespace/],
  [[{ type: 'ipc' }], /hostPID/],
  [[{ type: 'pid' }], /hostIPC/],
  [[{ type: 'pid' }, { type: 'ipc' }, { type: 'user' }], /user namespace/],
])('namespaceObstacles(%j) are %s', (namespaces, reason) => {
  const obstacles = namespaceObstacles({ linux: { namespaces } });
  expect(obstacles).toEqual(reason ? [expect.stringMatching(reason)] : []);
});

it.each([
  ['4.2', '4.2', 0],
  ['4.10', '4.9', 1],
  ['4.1.1', '4.2', -1],
  ['4.2', '4.2.1', -1],
])('compareVersions(%s, %s) is %i', (a, b, order) => {
  expect(compareVersions(a, b)).toBe(order);
});

it('instructionSets leaves out what is no instruction set', () => {
  const cpuinfo = 'processor : 0\nflags\t\t: fpu vme sse sse4_2 avx2 ibpb constant_tsc avx2\nbugs : none\n';
  expect(instructionSets(cpuinfo)).toEqual(['avx2', 'sse', 'sse4_2']);
});

it('cgroupVersion calls a hybrid set-up v1', () => {
  expect(cgroupVersion('cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n')).toBe('v2');
  expect(
    cgroupVersion('tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n'),
  ).toBe('v1');
});

it('mountFacts tells bind mounts by their options', () => {
  expect(
    mountFacts({ mounts: [{ destination: '/a', type: 'ext4', source: '/x', options: ['rbind', 'ro'] }] }),
  ).toEqual([{ destination: '/a', type: 'bind', readOnly: true }]);
});
