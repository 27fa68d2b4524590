import { expect, it } from 'vitest';
import { silent } from '../task/fakes.ts';
import { FakeCuda, seen } from './fake-cuda.test-helper.ts';
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

it('leaves a container without GPU state alone', async () => {
  const helper = () => {
    throw new Error('nobody needs the driver');
  };
  expect(await suspendGpu(input(process.pid), helper)).toBeUndefined();
});
