import { describe, expect, it } from 'vitest';
import type { Gpu } from './driver.ts';
import { type CudaFacts, gpuDevices, gpuDifferences, gpuPairs, unsupported, visibleGpus } from './gpus.ts';

const uuid = (digit: number) => `GPU-0000000${digit}-1111-2222-3333-444444444444`;
const gpu = (digit: number, more: Partial<Gpu> = {}): Gpu => ({
  uuid: uuid(digit),
  minor: digit,
  memoryBytes: 80e9,
  name: 'H100',
  mig: false,
  persistence: true,
  vgpu: false,
  ...more,
});
const facts = (...digits: number[]): CudaFacts => ({
  driver: '580.1',
  gpus: digits.map((digit) => {
    const { uuid, name, memoryBytes, minor } = gpu(digit);
    return { uuid, name, memoryBytes, minor };
  }),
  processes: [{ pid: 1, bytes: 1 }],
});
const live = (...gpus: Gpu[]) => ({ driver: '580.1', gpus });

describe('the GPUs of a container', () => {
  const node = [gpu(0), gpu(1), gpu(2)];
  it.each([
    ['its devices', { linux: { devices: [{ path: '/dev/nvidia1', major: 195, minor: 1 }] } }, [1]],
    [
      'a device under another name',
      { linux: { devices: [{ path: '/dev/gpu', major: 195, minor: 2 }] } },
      [2],
    ],
    ['a device of the node by its name alone', { linux: { devices: [{ path: '/dev/nvidia2' }] } }, [2]],
    ['bind mounts', { mounts: [{ destination: '/dev/nvidia0', source: '/dev/nvidia0' }] }, [0]],
    [
      'nothing: all of the node',
      { linux: { devices: [{ path: '/dev/nvidiactl', major: 195, minor: 255 }] } },
      [0, 1, 2],
    ],
  ])('are known by %s', (_, spec, minors) => {
    expect(visibleGpus(spec, node).map(({ minor }) => minor)).toEqual(minors);
  });

  it('come with devices of the driver, directly below /dev', () => {
    const devices = [
      { path: '/dev/nvidia3', major: 195, minor: 3 },
      { path: '/dev/nvidia-uvm', major: 238, minor: 0 },
      { path: '/dev/nvidia-caps/nvidia-cap1', major: 241, minor: 1 },
      { path: '/dev/fuse', major: 10, minor: 229 },
      { path: '/dev/nvidia4' },
    ];
    expect(gpuDevices({ linux: { devices } }).map(({ name }) => name)).toEqual(['nvidia3', 'nvidia-uvm']);
  });

  it('are refused where the driver cannot save them', () => {
    expect(unsupported([gpu(0)])).toBeUndefined();
    expect(unsupported([gpu(0), gpu(1, { mig: true })])).toMatch(/MIG/);
    expect(unsupported([gpu(0, { vgpu: true })])).toMatch(/vGPU/);
  });
});

describe('preflight', () => {
  it('finds nothing against the same or an equal GPU', () => {
    expect(gpuDifferences(facts(0), live(gpu(0)))).toEqual([]);
    expect(gpuDifferences(facts(0, 1), live(gpu(2, { memoryBytes: 90e9 }), gpu(3)))).toEqual([]);
  });
  it.each([
    ['another driver', { driver: '590.1', gpus: [gpu(0)] }, /580\.1, this node has 590\.1/],
    ['no GPU', live(), /has 1 GPU, the container 0 GPUs/],
    ['more GPUs', live(gpu(0), gpu(1)), /has 1 GPU, the container 2 GPUs/],
    ['another model', live(gpu(1, { name: 'A100' })), /made on H100, the container has A100/],
    ['less memory', live(gpu(1, { memoryBytes: 1 })), /has 1 bytes/],
    ['MIG', live(gpu(0, { mig: true })), /MIG/],
  ])('refuses %s', (_, now, message) => {
    const differences = gpuDifferences(facts(0), now);
    expect(differences).toHaveLength(1);
    expect(differences[0]).toMatch(message);
  });
});

describe('the map of GPUs', () => {
  const pairs = (saved: number[], now: number[]) =>
    gpuPairs(
      facts(...saved),
      now.map((digit) => gpu(digit)),
    ).map(({ from, to }) => [from, to]);

  it('is none for the same GPUs in any order', () => {
    expect(pairs([0, 1], [1, 0])).toEqual([]);
  });
  it('names every GPU of the checkpoint, those that stay too', () => {
    expect(pairs([0, 1], [2, 0])).toEqual([
      [uuid(0), uuid(0)],
      [uuid(1), uuid(2)],
    ]);
    expect(pairs([0, 1, 2], [5, 1, 4])).toEqual([
      [uuid(0), uuid(5)],
      [uuid(1), uuid(1)],
      [uuid(2), uuid(4)],
    ]);
  });
});
