import { expect, it } from 'vitest';
import { FakeCuda, type FakeProcess, gpuLine, seen, UUID } from './fake-cuda.test-helper.ts';
import { comeBack, leaveGpu, returnToGpu } from './sequence.ts';

async function three(cuda: FakeCuda): Promise<FakeProcess[]> {
  return [await cuda.start('a'), await cuda.start('b'), await cuda.start('c')];
}

const pidsOf = (processes: readonly FakeProcess[]) => processes.map(({ pid }) => pid);

async function expectAllRun(processes: readonly FakeProcess[], gpu = UUID(0)): Promise<void> {
  expect(await Promise.all(processes.map((process) => process.next()))).toEqual(
    ['a', 'b', 'c'].slice(0, processes.length).map((token) => seen(token, gpu)),
  );
}

it('locks all before it checkpoints any, and restores all before it unlocks any', async () => {
  const cuda = new FakeCuda();
  const processes = await three(cuda);
  const helper = cuda.helper();
  await leaveGpu(pidsOf(processes), 1000, helper);
  await returnToGpu(pidsOf(processes), [], helper);
  const order = cuda
    .calls()
    .map((line) => line.split(' ')[0])
    .filter((name) => name !== 'state');
  const times = (name: string) => [name, name, name];
  expect(order).toEqual(['lock', 'checkpoint', 'restore', 'unlock'].flatMap(times));
  await expectAllRun(processes);
});

it.each([
  ['a lock that times out', 'lock', 600, /did not finish/],
  ['a checkpoint that the driver refuses', 'checkpoint', 801, /cannot save/],
  ['a checkpoint without host memory', 'checkpoint', 2, /too little memory/],
  ['a driver that crashes in a lock', 'lock', 'crash', /signal 11/],
  ['a driver that crashes in a checkpoint', 'checkpoint', 'crash', /signal 11/],
  ['a state that cannot be had', 'state', 999, /CUDA error 999/],
] as const)('lets the workload go on after %s', async (_, name, result, message) => {
  const cuda = new FakeCuda();
  const processes = await three(cuda);
  cuda.fault(name, result, 1);
  await expect(leaveGpu(pidsOf(processes), 1000, cuda.helper())).rejects.toThrow(message);
  await expectAllRun(processes);
});

it('undoes in reverse', async () => {
  const cuda = new FakeCuda();
  const processes = await three(cuda);
  const [a, b, c] = pidsOf(processes);
  cuda.fault('state', 999, 2);
  await expect(leaveGpu(pidsOf(processes), 1000, cuda.helper())).rejects.toThrow();
  const undo = cuda.calls().filter((line) => /^(restore|unlock)/.test(line));
  expect(undo).toEqual([
    `restore ${c}`,
    `restore ${b}`,
    `restore ${a}`,
    `unlock ${c}`,
    `unlock ${b}`,
    `unlock ${a}`,
  ]);
});

it('lets the others go on when a process dies on the way', async () => {
  const cuda = new FakeCuda();
  const processes = await three(cuda);
  cuda.fault('checkpoint', 'die', 2);
  await expect(leaveGpu(pidsOf(processes), 1000, cuda.helper())).rejects.toThrow(/has ended/);
  const alive = processes.filter(({ child }) => child.signalCode === null);
  expect(alive).toHaveLength(2);
  for (const process of alive) expect(await process.next()).toMatch(/gpu=[abc] /);
});

it('says so when what was done cannot be undone', async () => {
  const cuda = new FakeCuda();
  const processes = await three(cuda);
  cuda.fault('checkpoint', 801, 2);
  cuda.fault('restore', 2);
  const failure = leaveGpu(pidsOf(processes), 1000, cuda.helper());
  await expect(failure).rejects.toThrow(/cannot save.*not undone.*too little free memory/);
  await expect(failure).rejects.toMatchObject({ context: { isStuck: true } });
});

it.each([
  ['too little GPU memory', 2, /too little free memory/],
  ['a wrong map', 1, /do not match/],
  ['a process that is in a wrong state', 401, /earlier restore has failed/],
] as const)('rejects a restore with %s', async (_, result, message) => {
  const cuda = new FakeCuda();
  const processes = await three(cuda);
  const helper = cuda.helper();
  await leaveGpu(pidsOf(processes), 1000, helper);
  cuda.fault('restore', result, 1);
  await expect(returnToGpu(pidsOf(processes), [], helper)).rejects.toThrow(message);
});

it('believes no success that the state does not show', async () => {
  const cuda = new FakeCuda();
  const processes = [await cuda.start('a')];
  const helper = cuda.helper();
  await leaveGpu(pidsOf(processes), 1000, helper);
  cuda.fault('unlock', 0);
  await expect(returnToGpu(pidsOf(processes), [], helper)).rejects.toThrow(/reports no error.*locked/);
});

it('takes an unlock for done when the process runs', async () => {
  const cuda = new FakeCuda();
  const processes = [await cuda.start('a')];
  const helper = cuda.helper();
  await leaveGpu(pidsOf(processes), 1000, helper);
  await helper.restore(pidsOf(processes)[0] ?? 0, []);
  await helper.unlock(pidsOf(processes)[0] ?? 0);
  await comeBack(pidsOf(processes), helper);
  await expectAllRun(processes);
});

it('moves all of them to another GPU', async () => {
  const cuda = new FakeCuda(gpuLine(0) + gpuLine(1));
  const processes = await three(cuda);
  const helper = cuda.helper();
  await leaveGpu(pidsOf(processes), 1000, helper);
  await returnToGpu(
    pidsOf(processes),
    [
      { from: UUID(0), to: UUID(1) },
      { from: UUID(1), to: UUID(0) },
    ],
    helper,
  );
  await expectAllRun(processes, UUID(1));
});
