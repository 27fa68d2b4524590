import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { FakeCuda, gpuLine, seen, UUID } from './fake-cuda.test-helper.ts';

it('takes a process off the GPU and puts it back', async () => {
  const cuda = new FakeCuda();
  const process = await cuda.start('token');
  const helper = cuda.helper();
  expect(await helper.state(process.pid)).toBe('running');
  await helper.lock(process.pid, 1000);
  expect(await helper.state(process.pid)).toBe('locked');
  await helper.checkpoint(process.pid);
  expect(await helper.state(process.pid)).toBe('checkpointed');
  await helper.restore(process.pid, []);
  await helper.unlock(process.pid);
  expect(await process.next()).toBe(seen('token'));
});

it('lists GPUs with names of several words, and who uses them', async () => {
  const cuda = new FakeCuda(gpuLine(0, { name: 'Fake H100 80GB' }) + gpuLine(1, { mig: 1 }));
  const process = await cuda.start('token');
  const helper = cuda.helper();
  const { driver, gpus } = await helper.gpus();
  expect(driver).toBe('580.159.04');
  expect(gpus.map(({ uuid, minor, name, mig }) => ({ uuid, minor, name, mig }))).toEqual([
    { uuid: UUID(0), minor: 0, name: 'Fake H100 80GB', mig: false },
    { uuid: UUID(1), minor: 1, name: 'Fake H100', mig: true },
  ]);
  expect(await helper.use()).toEqual([{ gpu: UUID(0), pid: process.pid, bytes: 64 << 20 }]);
});

it('says what the driver means', async () => {
  const cuda = new FakeCuda();
  const fake = await cuda.start('token', 'busy');
  const helper = cuda.helper();
  await expect(helper.checkpoint(fake.pid)).rejects.toThrow(/locked or checkpointed it.*ILLEGAL_STATE/);
  await expect(helper.lock(fake.pid, 50)).rejects.toThrow(/did not finish what it was given.*NOT_READY/);
  await expect(helper.lock(process.pid, 50)).rejects.toThrow(/does not use CUDA/);
  await expect(helper.lock(2 ** 30, 50)).rejects.toThrow(/has ended/);
});

it('moves a process to another GPU', async () => {
  const cuda = new FakeCuda(gpuLine(0) + gpuLine(1));
  const process = await cuda.start('token');
  const helper = cuda.helper();
  await helper.lock(process.pid, 1000);
  await helper.checkpoint(process.pid);
  const wrong = [{ from: UUID(0), to: UUID(1) }];
  await expect(helper.restore(process.pid, wrong)).rejects.toThrow(/do not match those of the checkpoint/);
  expect(await helper.state(process.pid)).toBe('checkpointed');
  await helper.restore(process.pid, [...wrong, { from: UUID(1), to: UUID(0) }]);
  await helper.unlock(process.pid);
  expect(await process.next()).toBe(seen('token', UUID(1)));
});

it('makes no device but one of a GPU', async () => {
  const cuda = new FakeCuda();
  const fake = await cuda.start('token');
  const make = (name: string) => cuda.helper().makeDevice(fake.pid, { name, major: 1, minor: 3 });
  for (const name of ['sda', '../nvidia0', 'nvidia0/../x', 'nvidia.x'])
    await expect(make(name)).rejects.toThrow(/no name of a GPU's device/);
});

it('starts the program again when the driver has crashed it', async () => {
  const cuda = new FakeCuda();
  const process = await cuda.start('token');
  const helper = cuda.helper();
  cuda.fault('state', 'crash');
  await expect(helper.state(process.pid)).rejects.toThrow(/signal 11 ended it/);
  expect(await helper.state(process.pid)).toBe('running');
});

it('gives a call up that does not return, while others are answered', { timeout: 30_000 }, async () => {
  const cuda = new FakeCuda();
  const [stopped, other] = [await cuda.start('a'), await cuda.start('b')];
  const helper = cuda.helper();
  await stopped.stop();
  const late = helper.lock(stopped.pid, 1);
  const given = expect(late).rejects.toThrow(/a process that is stopped cannot answer/);
  expect(await helper.restoreThread(stopped.pid)).toBe(stopped.pid + 1);
  expect(await helper.state(other.pid)).toBe('running');
  await given;
  expect(await helper.state(other.pid)).toBe('running');
});

it('names the library that is missing, and no longer asks once closed', async () => {
  const cuda = new FakeCuda();
  const { CudaHelper } = await import('./helper.ts');
  const { native } = await import('../../native/index.ts');
  const { ChildSpawner } = await import('../process/spawn.ts');
  const config = {
    program: `${import.meta.dirname}/../../build/thaw-cuda`,
    libcuda: '/nonexistent/libcuda.so.1',
    nvml: '',
    env: {},
  };
  const deps = { calls: native, spawner: new ChildSpawner(native) };
  await expect(new CudaHelper(config, deps).gpus()).rejects.toThrow(
    /nonexistent\/libcuda\.so\.1: cannot open/,
  );
  await expect(new CudaHelper({ ...config, program: '/nonexistent' }, deps).gpus()).rejects.toThrow(/ENOENT/);
  const helper = cuda.helper();
  helper.close();
  await expect(helper.gpus()).rejects.toThrow(/not needed any more/);
});

it('answers who asks for the GPUs alone, and ends', () => {
  const cuda = new FakeCuda(gpuLine(0) + gpuLine(1, { mig: 1 }));
  const program = `${import.meta.dirname}/../../build/thaw-cuda`;
  const library = `${import.meta.dirname}/../../build/test/fake-libcuda.so`;
  const args = ['--libcuda', library, '--nvml', library, '--gpus'];
  const env = { THAW_FAKE_CUDA: cuda.directory };
  const [ready, answer] = execFileSync(program, args, { encoding: 'utf8', env }).split('\n');
  expect(ready).toBe(`ready\t${library}\t13000`);
  expect(answer).toBe(
    `ok\t580.159.04\t${UUID(0)}\t0\t85899345920\t0\t1\t0\tFake H100\t${UUID(1)}\t1\t85899345920\t1\t1\t0\tFake H100`,
  );
});
