/** GPU state saved and brought back with a container, on the fake driver of test/fake-libcuda. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  calls,
  cold,
  command,
  DIRECTORY,
  fault,
  gpuLine,
  logs,
  look,
  lookLate,
  node,
  removePods,
  repository,
  reset,
  run,
  runPod,
  seen,
  useGpuNode,
} from './lib/gpu-node.ts';
import { privateDir, until } from './lib/index.ts';
import type { Pod } from './lib/kubelet-node.ts';

let warm: string;
let saved: number;

useGpuNode();
beforeAll(async () => {
  const pod = await run(cold);
  const before = await lookLate(pod);
  warm = await node.checkpoint(pod, repository);
  const after = await look(pod);
  saved = before.count;
  // The source had its state back when it was resumed, and went on.
  expect(after.count).toBeGreaterThan(before.count);
  expect(after.seen).toBe(seen());
  await removePods();
  await node.forget(warm);
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
  ['too little GPU memory twice', () => fault('restore 0 2 2'), /too little free memory/],
  ['a driver that crashes twice', () => fault('restore 0 2 crash'), /signal 11 ended it/],
  ['a process that the driver loses twice', () => fault('unlock 0 2 die'), /has ended/],
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
  ['too little GPU memory', 'restore 0 1 2'],
  ['a driver that crashes', 'restore 0 1 crash'],
  ['a process that the driver loses', 'unlock 0 1 die'],
])('is restored once more after %s', async (_, line) => {
  const said = logs();
  fault(line);
  const pod = await run(warm);
  expect(said()).toMatch(/GPU state is stuck, restoring once more/);
  expect(calls().filter((name) => name === 'restore')).toHaveLength(2);
  const state = await look(pod);
  expect(state.count).toBeGreaterThan(saved);
  expect(state.seen).toBe(seen());
});

it('needs the driver to start once', async () => {
  writeFileSync(`${DIRECTORY}/starts`, '');
  await look(await run(warm));
  expect(readFileSync(`${DIRECTORY}/starts`, 'utf8').trim().split('\n')).toHaveLength(1);
});

describe('a shim that is killed while its processes are off the GPU takes the container with it', () => {
  const killShims = () => {
    const shims = readdirSync('/proc').filter(
      (pid) => /^\d+$/.test(pid) && / serve $/.test(commandOf(pid).replaceAll('\0', ' ')),
    );
    expect(shims).not.toEqual([]);
    for (const pid of shims) process.kill(Number(pid), 'SIGKILL');
  };
  const commandOf = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    } catch {
      return '';
    }
  };
  const isRunning = () =>
    readdirSync('/proc').some((pid) => commandOf(pid).startsWith('/bin/fake-cuda-process'));
  const ended = async ({ containerId }: Pod) => {
    await until('containerd to know it', async () => {
      const { state } = await node.cri.containerStatus(containerId);
      return state === 'CONTAINER_EXITED';
    });
    expect(isRunning()).toBe(false);
  };

  it('while the driver takes them off', async () => {
    const pod = await run(cold);
    await look(pod);
    fault('checkpoint 0 1 hang');
    const saving = expect(node.checkpoint(pod, 'test/killed')).rejects.toThrow(
      /thaw checkpoint ended with 1/,
    );
    await until('the driver to be asked', () => calls().includes('checkpoint'));
    killShims();
    await saving;
    await ended(pod);
  });

  it('while they stand still after a dump, also without containerd', async () => {
    const pod = await run(cold);
    await look(pod);
    const images = privateDir('gpu-dump');
    const task = (...args: string[]) => node.containerd.ctr(['-n', 'k8s.io', 'task', ...args]);
    await task('pause', pod.containerId);
    await task('checkpoint', '--image-path', images, pod.containerId);
    rmSync(images, { recursive: true });
    expect(calls()).toContain('checkpoint');
    expect(calls()).not.toContain('restore');
    await node.containerd.kill();
    killShims();
    await node.containerd.restart();
    await ended(pod);
  });
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

it('is not taken from a GPU that another pod uses too, unless the pod says that they share nothing', async () => {
  const annotations = { 'thaw.dev/gpu-processes': 'independent' };
  const silent = await run(cold);
  const said = await runPod({ image: cold, annotations });
  await expect(node.checkpoint(silent, 'test/gpu-shared')).rejects.toThrow(
    /process \d+ \(fake-cuda-proce\) outside the container has its GPU in use too.*gpu-processes: independent/,
  );
  await node.checkpoint(said, 'test/gpu-shared');
  for (const pod of [silent, said]) expect((await look(pod)).seen).toBe(seen());
});

it('comes back for every process of a container that says they share nothing', async () => {
  const annotations = { 'thaw.dev/gpu-processes': 'independent' };
  const children = { command: command('children', '2') };
  const silent = await run(cold, 'children', '2');
  await look(silent, '/state-2');
  await expect(node.checkpoint(silent, 'test/gpu-refused')).rejects.toThrow(/3 of its processes use the GPU/);
  expect((await look(silent, '/state-2')).seen).toBe(seen());
  await removePods();
  const pod = await runPod({ image: cold, annotations, ...children });
  await look(pod, '/state-2');
  const tree = await node.checkpoint(pod, 'test/gpu-tree');
  for (const name of ['/state', '/state-1', '/state-2']) expect((await look(pod, name)).seen).toBe(seen());
  await removePods();
  reset();
  const again = await run(tree, 'children', '2');
  for (const name of ['/state', '/state-1', '/state-2']) expect((await look(again, name)).seen).toBe(seen());
  expect(calls().filter((name) => name === 'restore')).toHaveLength(3);
});
