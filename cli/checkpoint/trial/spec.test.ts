import { describe, expect, it } from 'vitest';
import { bindMounts, type SourceSpec, trialObstacle, trialSpec } from './spec.ts';

const namespaces = (network?: string) => [
  { type: 'pid' },
  { type: 'network', ...(network ? { path: network } : {}) },
  { type: 'ipc', path: '/proc/1/ns/ipc' },
  { type: 'uts' },
  { type: 'mount' },
];

const spec: SourceSpec & { root: object } = {
  root: { path: 'rootfs' },
  process: { terminal: false },
  hooks: { poststart: [{ path: '/x' }] },
  annotations: { 'io.kubernetes.cri.sandbox-id': 'pod' },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc' },
    { destination: '/data', type: 'bind', source: '/volumes/data', options: ['rbind', 'rw'] },
    { destination: '/models', source: '/volumes/models', options: ['rbind', 'ro'] },
  ],
  linux: { namespaces: namespaces('/proc/1/ns/net'), cgroupsPath: '/kubepods/pod1/abc' },
};
const without = (type: string): SourceSpec => ({
  ...spec,
  linux: { namespaces: namespaces().filter((namespace) => namespace.type !== type) },
});

it('tells bind mounts from others', () => {
  expect(bindMounts(spec)).toEqual([
    { destination: '/data', source: '/volumes/data', readOnly: false },
    { destination: '/models', source: '/volumes/models', readOnly: true },
  ]);
});

it('leaves nothing of the source to talk to', () => {
  const made = trialSpec(spec, { id: 't1', network: '/fresh', sources: new Map([['/data', '/copy']]) });
  expect(made).toEqual({
    root: { path: 'rootfs' },
    process: { terminal: false },
    annotations: {},
    mounts: [spec.mounts?.[0], { ...spec.mounts?.[1], source: '/copy' }, spec.mounts?.[2]],
    linux: {
      namespaces: [
        { type: 'pid' },
        { type: 'network', path: '/fresh' },
        { type: 'ipc' },
        { type: 'uts' },
        { type: 'mount' },
      ],
      cgroupsPath: '/t1',
    },
  });
});

it("keeps a container's own network for CRIU to make, and the way of naming cgroups", () => {
  const own = {
    ...spec,
    linux: { namespaces: namespaces(), cgroupsPath: 'kubepods-pod1.slice:cri-containerd:abc' },
  };
  const { linux } = trialSpec(own, { id: 't1', network: '/fresh', sources: new Map() });
  expect(linux?.namespaces?.[1]).toEqual({ type: 'network' });
  expect(linux?.cgroupsPath).toBe('system.slice:thaw:t1');
});

describe('what cannot be tried', () => {
  it('is nothing ordinary', () => expect(trialObstacle(spec)).toBeUndefined());

  it.each<[string, SourceSpec, RegExp]>([
    ['the network of the host', without('network'), /network namespace of the host/],
    ['the host name of the host', without('uts'), /host name of the host/],
    [
      'a user namespace',
      { ...spec, linux: { namespaces: [...namespaces(), { type: 'user' }] } },
      /user namespace/,
    ],
    [
      'the processes of a pod',
      { ...without('pid'), linux: { namespaces: [...namespaces().slice(1), { type: 'pid', path: '/p' }] } },
      /shares its PID/,
    ],
    ['a terminal', { ...spec, process: { terminal: true } }, /terminal/],
    ['a GPU', { ...spec, linux: { ...spec.linux, devices: [{ path: '/dev/nvidia0' }] } }, /GPU/],
  ])('is %s', (_, source, reason) => {
    expect(trialObstacle(source)).toMatch(reason);
  });
});
