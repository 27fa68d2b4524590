import { describe, expect, it } from 'vitest';
import { silent } from '../task/fakes.ts';
import { FakeCuda, gpuLine, seen } from './fake-cuda.test-helper.ts';
import { prepareGpuRestore } from './resume.ts';
import { type SuspendInput, suspendGpu } from './suspend.ts';

const input = (pid: number, change: Partial<SuspendInput> = {}): SuspendInput => ({
  id: 'c',
  pid,
  spec: {},
  paused: false,
  exit: false,
  runc: undefined as never,
  log: silent,
  ...change,
});

it.each(['dumped', 'failed'] as const)('a dump that has %s starts the driver once', async (outcome) => {
  const cuda = new FakeCuda();
  const process = await cuda.start('token');
  const suspended = await suspendGpu(input(process.pid), () => cuda.helper());
  expect(cuda.calls().at(-1)).toMatch(/^state/);
  expect(await suspended?.finish(outcome)).toBeUndefined();
  expect(await process.next()).toBe(seen('token'));
  expect(cuda.starts()).toBe(1);
});

it('a restore starts the driver once, before CRIU', async () => {
  const cuda = new FakeCuda();
  const process = await cuda.start('token');
  const suspended = await suspendGpu(input(process.pid, { exit: true }), () => cuda.helper());
  if (!suspended) throw new Error('nothing was on a GPU');
  expect(await suspended.finish('dumped')).toBeUndefined();
  const before = cuda.starts();
  const restore = prepareGpuRestore(suspended.facts, {}, cuda.helper(), silent);
  expect(await restore.differences()).toEqual([]);
  expect(cuda.starts() - before).toBe(1);
  await restore.resume(process.pid);
  expect(await process.next()).toBe(seen('token'));
  expect(cuda.starts() - before).toBe(1);
});

it('a restore that does not end is given up in the time that it has, and tried again', async () => {
  const cuda = new FakeCuda();
  const process = await cuda.start('token');
  const suspended = await suspendGpu(input(process.pid, { exit: true }), () => cuda.helper());
  if (!suspended) throw new Error('nothing was on a GPU');
  await suspended.finish('dumped');
  cuda.fault('restore', 'hang');
  const restore = prepareGpuRestore(suspended.facts, {}, cuda.helper(), silent);
  await expect(restore.resume(process.pid, 100)).rejects.toThrow(/did not restore process .* within 100 ms/);
  await restore.resume(process.pid);
  expect(await process.next()).toBe(seen('token'));
});

describe('what the driver cannot save is refused with the reason, and the workload goes on:', () => {
  it.each([
    ['MIG', gpuLine(0, { mig: 1 }), [], undefined, /divided by MIG.*switch MIG off/],
    ['vGPU', gpuLine(0, { vgpu: 1 }), [], undefined, /virtual \(vGPU\)/],
    ['managed memory', gpuLine(0), ['managed'], undefined, /managed memory \(UVM\), MPS or memory shared/],
    // A client of MPS, or memory of another process that is open here: the driver says no more than that.
    ['MPS, IPC', gpuLine(0), [], ['checkpoint', 801], /managed memory \(UVM\), MPS or memory shared/],
    [
      'more than the host has room for',
      gpuLine(0),
      ['mib', '1000000000'],
      undefined,
      /this node has room for/,
    ],
    ['memory that does not come to the host', gpuLine(0), ['mib', '2048'], undefined, /of 2048 MiB there/],
    ['work that does not end', gpuLine(0), ['busy'], ['lock', 600], /did not finish what it was given/],
  ] as const)('%s', async (_, gpus, flags, fault, reason) => {
    const cuda = new FakeCuda(gpus);
    const process = await cuda.start('token', ...flags);
    if (fault) cuda.fault(fault[0], fault[1]);
    await expect(suspendGpu(input(process.pid), () => cuda.helper())).rejects.toThrow(reason);
    expect(await process.next()).toBe(seen('token'));
  });
});

describe('a process of another container', () => {
  const spec = { linux: { devices: [{ path: '/dev/nvidia0', type: 'c', major: 195, minor: 0 }] } };

  it('on the same GPU may share memory with it, unless the pod says that none is shared', async () => {
    const cuda = new FakeCuda();
    const process = await cuda.start('token');
    const other = await cuda.start('other');
    await expect(suspendGpu(input(process.pid, { spec }), () => cuda.helper())).rejects.toThrow(
      `process ${other.pid} (fake-cuda-proce) outside the container has its GPU in use too`,
    );
    expect(cuda.calls().join()).not.toContain('lock');
    const annotations = { 'thaw.dev/gpu-processes': 'independent' };
    const said = await suspendGpu(input(process.pid, { spec: { ...spec, annotations } }), () =>
      cuda.helper(),
    );
    await said?.finish('dumped');
    expect(await process.next()).toBe(seen('token'));
    expect(await other.next()).toBe(seen('other'));
  });

  it('on another GPU is none of its business', async () => {
    const cuda = new FakeCuda(gpuLine(1) + gpuLine(0));
    await cuda.start('other');
    cuda.setGpus(gpuLine(0) + gpuLine(1));
    const process = await cuda.start('token');
    const suspended = await suspendGpu(input(process.pid, { spec }), () => cuda.helper());
    await suspended?.finish('dumped');
    expect(await process.next()).toBe(seen('token'));
  });
});

it('leaves a container without GPU state alone', async () => {
  const helper = () => {
    throw new Error('nobody needs the driver');
  };
  expect(await suspendGpu(input(process.pid), helper)).toBeUndefined();
});
