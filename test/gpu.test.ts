/** GPU state saved and brought back with a container, on the fake driver of test/fake-libcuda. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { assertNothingLeft, type Leftovers, takeStock, until } from './lib/index.ts';
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';

const BUILD = join(import.meta.dirname, '../build/test');
/** A name by which a mount counts as a GPU: no trial restore takes the memory of the first. */
const DIRECTORY = '/dev/nvidia-fake';
const LIBRARY = `${DIRECTORY}.so`;
const uuid = (digit: number) => `GPU-0000000${digit}-1111-2222-3333-444444444444`;
const gpuLine = (digit: number, name = 'Fake H100') => `${uuid(digit)} ${digit} 85520809984 0 1 0 ${name}\n`;
const command = (...more: string[]) => ['/bin/fake-cuda-process', '/gpu', 'secret', ...more];
const repository = 'test/gpu';

let node: KubeletNode;
let stock: Leftovers;
let cold: string;
let warm: string;
let saved: number;
const pods: Pod[] = [];

function reset(gpus = gpuLine(0)): void {
  writeFileSync(`${DIRECTORY}/gpus`, gpus);
  writeFileSync(`${DIRECTORY}/faults`, '');
  writeFileSync(`${DIRECTORY}/log`, '');
}

async function run(image: string, ...more: string[]): Promise<Pod> {
  const mounts = [{ containerPath: '/gpu', hostPath: DIRECTORY, readonly: false }];
  const pod = await node.runPod({ image, command: command(...more), mounts });
  pods.push(pod);
  return pod;
}

/** After it has gone on: how far it is, and what it sees. */
async function look(pod: Pod, name = '/state'): Promise<{ count: number; seen: string }> {
  const read = async () => (await node.exec(pod, 'cat', name).catch(() => '')).trim();
  const first = await until('the process to write its state', read);
  const text = await until('the process to go on', async () => {
    const next = await read();
    return next !== '' && next !== first && next;
  });
  const [count, ...seen] = text.split(' ');
  return { count: Number(count), seen: seen.join(' ') };
}

const seen = (gpu = 0) => `cpu=secret file=secret gpu=secret on=${uuid(gpu)}`;
const calls = () =>
  readFileSync(`${DIRECTORY}/log`, 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[0]);

/** What shims have logged since. */
function logs(): () => string {
  const before = node.shimLog().length;
  return () => node.shimLog().slice(before);
}

async function removePods(): Promise<void> {
  for (const pod of pods.splice(0)) await node.removePod(pod);
}

beforeAll(async () => {
  mkdirSync(DIRECTORY, { recursive: true });
  cpSync(join(BUILD, 'fake-libcuda.so'), LIBRARY);
  reset();
  // containerd hands its environment on to shims.
  Object.assign(process.env, { THAW_FAKE_CUDA: DIRECTORY, THAW_LIBCUDA: LIBRARY, THAW_LIBNVML: LIBRARY });
  node = await KubeletNode.start();
  const program = {
    path: 'bin/fake-cuda-process',
    mode: 0o755,
    content: readFileSync(join(BUILD, 'fake-cuda-process')),
  };
  const library = { path: 'libcuda.so.1', content: 'x'.repeat(4096) };
  cold = await node.pushImage(repository, [program, library], command());
  const pod = await run(cold);
  // Further than one that starts anew gets while it is looked at.
  const before = await until('the process to have done something', async () => {
    const state = await look(pod);
    return state.count > 100 && state;
  });
  warm = await node.checkpoint(pod, repository);
  const after = await look(pod);
  saved = before.count;
  // The source had its state back when it was resumed, and went on.
  expect(after.count).toBeGreaterThan(before.count);
  expect(after.seen).toBe(seen());
  await removePods();
  await node.forget(warm);
});
afterAll(async () => {
  await node.stop();
  for (const path of [DIRECTORY, LIBRARY]) rmSync(path, { recursive: true, force: true });
  for (const name of ['THAW_FAKE_CUDA', 'THAW_LIBCUDA', 'THAW_LIBNVML']) delete process.env[name];
});
beforeEach(async () => {
  // What failed in the test before would not be tried again.
  await node.thaw(['retry', '--all']);
  stock = takeStock();
  reset();
});
afterEach(async () => {
  await removePods();
  await assertNothingLeft(stock);
});

it('is there in another pod, as the memory and the files are', async () => {
  const pod = await run(warm);
  const state = await look(pod);
  expect(state.seen).toBe(seen());
  expect(state.count).toBeGreaterThan(saved);
  expect(calls().filter((name) => name === 'restore' || name === 'unlock')).toEqual(['restore', 'unlock']);
});

it('moves to the GPU that the other pod has', async () => {
  reset(gpuLine(1));
  const state = await look(await run(warm));
  expect(state.seen).toBe(seen(1));
  expect(state.count).toBeGreaterThan(saved);
});

it.each([
  [
    'another model of GPU',
    () => reset(gpuLine(0, 'Fake A100')),
    /made on Fake H100, the container has Fake A100/,
  ],
  ['no GPU', () => reset(''), /has 1 GPU, the container 0 GPUs/],
  [
    'too little GPU memory',
    () => writeFileSync(`${DIRECTORY}/faults`, 'restore 0 1 2\n'),
    /too little free memory/,
  ],
  [
    'a driver that crashes',
    () => writeFileSync(`${DIRECTORY}/faults`, 'restore 0 1 crash\n'),
    /signal 11 ended it/,
  ],
  [
    'a process that the driver loses',
    () => writeFileSync(`${DIRECTORY}/faults`, 'unlock 0 1 die\n'),
    /has ended/,
  ],
] as const)('starts cold with %s', async (_, spoil, reason) => {
  const said = logs();
  spoil();
  const pod = await run(warm);
  expect(said()).toMatch(reason);
  const state = await look(pod);
  expect(state.count).toBeLessThan(saved);
  expect(state.seen).toContain('cpu=secret file=secret gpu=secret');
});

it.each([
  ['memory that the driver cannot save', ['managed'], /uses something that the driver cannot save/],
  ['work that does not end', ['busy'], /the GPU did not finish what it was given in time/],
] as const)('lets the workload go on that has %s', async (_, flags, reason) => {
  const pod = await run(cold, ...flags);
  const before = await look(pod);
  await expect(node.checkpoint(pod, 'test/refused')).rejects.toThrow(reason);
  const after = await look(pod);
  expect(after.count).toBeGreaterThan(before.count);
  expect(after.seen).toBe(seen());
});

it('comes back for every process of a container', async () => {
  const pod = await run(cold, 'children', '2');
  await look(pod, '/state-2');
  const tree = await node.checkpoint(pod, 'test/gpu-tree');
  for (const name of ['/state', '/state-1', '/state-2']) expect((await look(pod, name)).seen).toBe(seen());
  await removePods();
  reset();
  const again = await run(tree, 'children', '2');
  for (const name of ['/state', '/state-1', '/state-2']) expect((await look(again, name)).seen).toBe(seen());
  expect(calls().filter((name) => name === 'restore')).toHaveLength(3);
});
