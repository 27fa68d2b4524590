import { expect, it } from 'vitest';
import { FakeCuda } from './fake-cuda.test-helper.ts';
import { cudaProcesses, gpuTraces, hasDevices, hasLibrary, isStopped, outerPids } from './processes.ts';

const MAPS = `7f0000000000-7f0000001000 r-xp 00000000 00:1f 12 /usr/lib/libcuda.so.580.159.04
7f0000001000-7f0000002000 rw-p 00000000 00:00 0 [heap]`;

it('knows the library and the devices by their paths', () => {
  expect(hasLibrary(MAPS)).toBe(true);
  expect(hasLibrary(MAPS.replace('libcuda.so', 'libcudart.so'))).toBe(false);
  expect(hasLibrary(MAPS.replace('/usr/lib/libcuda.so.580.159.04', '/data/libcuda.so.d/file'))).toBe(false);
  expect(hasDevices(MAPS, ['/dev/null', 'socket:[1]'])).toBe(false);
  expect(hasDevices(MAPS, ['/dev/nvidiactl'])).toBe(true);
  expect(hasDevices(`${MAPS}\n7f-80 rw-s 00000000 00:06 9 /dev/nvidia0`, [])).toBe(true);
});

it('knows a stopped process by its state, not by its name', () => {
  expect(isStopped('12 (T (x) T ) S 1 2')).toBe(false);
  expect(isStopped('12 (a) b) T 1 2')).toBe(true);
  expect(isStopped('12 (cat) t 1 2')).toBe(true);
});

it('finds processes with CUDA and their children, and leaves out one that only has the library', async () => {
  const cuda = new FakeCuda();
  const fake = await cuda.start('token', 'children', '1');
  const traces = await gpuTraces(fake.pid);
  expect(traces).toHaveLength(2);
  const helper = cuda.helper();
  expect(await cudaProcesses(traces, helper)).toHaveLength(2);
  cuda.fault('thread', 3, 2);
  expect(await cudaProcesses(traces, helper)).toHaveLength(1);
});

it('refuses one that uses the GPU without CUDA, and one that is stopped', async () => {
  const cuda = new FakeCuda();
  const fake = await cuda.start('token');
  const helper = cuda.helper();
  const [traces] = await gpuTraces(fake.pid);
  if (!traces) throw new Error('the process was not found');
  cuda.fault('thread', 3);
  await expect(cudaProcesses([{ ...traces, devices: true }], helper)).rejects.toThrow(/without CUDA/);
  await fake.stop();
  await expect(cudaProcesses([{ ...traces, isStopped: true }], helper)).rejects.toThrow(/SIGCONT/);
});

it('finds restored processes by their pids inside, and misses none silently', async () => {
  const cuda = new FakeCuda();
  const fake = await cuda.start('token');
  expect(await outerPids(fake.pid, [fake.pid])).toEqual([fake.pid]);
  await expect(outerPids(fake.pid, [2])).rejects.toThrow(/lacks process 2/);
});
