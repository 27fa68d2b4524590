/** GPU state saved and brought back with a container, on the fake driver of test/fake-libcuda. */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TomlTable } from 'smol-toml';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  assertNothingLeft,
  containerdVersion,
  type Leftovers,
  privateDir,
  takeStock,
  until,
} from './lib/index.ts';
import { KubeletNode, type Pod, type PodRequest } from './lib/kubelet-node.ts';

const BUILD = join(import.meta.dirname, '../build/test');
/** A name by which a mount counts as a GPU: no trial restore takes the memory of the first. */
const DIRECTORY = '/dev/nvidia-fake';
const LIBRARY = `${DIRECTORY}.so`;
const uuid = (digit: number) => `GPU-0000000${digit}-1111-2222-3333-444444444444`;
const gpuLine = (digit: number, name = 'Fake H100') => `${uuid(digit)} ${digit} 85520809984 0 1 0 ${name}\n`;
const command = (...more: string[]) => ['/bin/fake-cuda-process', '/gpu', 'secret', ...more];
const repository = 'test/gpu';

/** Of the driver's files on the node, by GPU, and of what gives them to containers. */
const FILES = privateDir('gpu');
const WRAPPER = `${FILES}/fake-nvidia-container-runtime`;
const CDI_HOOK = `${FILES}/fake-nvidia-cdi-hook`;
/** Its handler. */
const WRAPPED = 'thaw-wrapped';

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

function run(image: string, ...more: string[]): Promise<Pod> {
  return runPod({ image, command: command(...more) });
}

async function runPod(request: PodRequest): Promise<Pod> {
  const mounts = [{ containerPath: '/gpu', hostPath: DIRECTORY, readonly: false }];
  const pod = await node.runPod({ command: command(), mounts, ...request });
  pods.push(pod);
  return pod;
}

/** A GPU's device, as CDI or a wrapper of runc gives it. */
const device = (minor: number) => ({ path: `/dev/nvidia${minor}`, type: 'c', major: 195, minor });

function writeCdi(): void {
  const devices = [0, 1].map((minor) => ({
    name: `${minor}`,
    containerEdits: {
      deviceNodes: [device(minor)],
      hooks: [
        {
          hookName: 'createContainer',
          path: CDI_HOOK,
          args: ['fake-nvidia-cdi-hook', 'disable-device-node-modification'],
        },
      ],
      mounts: [{ hostPath: `${FILES}/driver-${minor}`, containerPath: '/driver', options: ['ro', 'bind'] }],
    },
  }));
  mkdirSync(`${FILES}/cdi`);
  writeFileSync(
    `${FILES}/cdi/fake.json`,
    JSON.stringify({ cdiVersion: '0.5.0', kind: 'nvidia.com/gpu', devices }),
  );
}

/** CDI, and a handler with the wrapper. */
async function settings(): Promise<TomlTable> {
  const runtime = {
    runtime_type: 'io.containerd.runc.thaw.v2',
    snapshotter: 'thaw',
    options: { BinaryName: WRAPPER },
  };
  const cri = {
    enable_cdi: true,
    cdi_spec_dirs: [`${FILES}/cdi`],
    containerd: { runtimes: { [WRAPPED]: runtime } },
  };
  return {
    plugins:
      (await containerdVersion()) === '1.7'
        ? { 'io.containerd.grpc.v1.cri': cri }
        : {
            'io.containerd.cri.v1.runtime': cri,
            'io.containerd.cri.v1.images': { runtime_platforms: { [WRAPPED]: { snapshotter: 'thaw' } } },
          },
  };
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

/** What becomes of the next calls of the driver: see fake-libcuda/README.md. */
function fault(line: string): void {
  writeFileSync(`${DIRECTORY}/faults`, `${line}\n`);
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
  for (const minor of [0, 1]) {
    mkdirSync(`${FILES}/driver-${minor}`, { recursive: true });
    writeFileSync(`${FILES}/driver-${minor}/name`, `driver ${minor}`);
  }
  writeCdi();
  cpSync(join(import.meta.dirname, 'fixtures/fake-nvidia-container-runtime'), WRAPPER);
  cpSync(join(import.meta.dirname, 'fixtures/fake-nvidia-cdi-hook'), CDI_HOOK);
  node = await KubeletNode.start({ extra: await settings() });
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
  for (const path of [DIRECTORY, LIBRARY, FILES]) rmSync(path, { recursive: true, force: true });
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

describe('with another GPU and the driver files that belong to it', () => {
  const minor = (value: number) => {
    reset(gpuLine(value));
    writeFileSync(`${FILES}/minor`, `${value}`);
  };
  /** How many mounts a hook makes that no spec has. */
  const checks: [string, number, (minor: number) => Partial<PodRequest>][] = [
    ['by CDI', 1, (value) => ({ devices: [`nvidia.com/gpu=${value}`] })],
    ['by a wrapper of runc', 0, () => ({ handler: WRAPPED })],
  ];
  const mounted = async (pod: Pod, point: RegExp) =>
    (await node.exec(pod, 'cat', '/proc/mounts')).split('\n').filter((line) => point.test(line));
  const DRIVER = / \/driver /;
  const HIDING = / \/run\/nvidia-ctk-hook\//;

  it.each(checks)('%s', async (how, hooks, given) => {
    const name = `test/gpu-${how.split(' ').at(-1)?.toLowerCase()}`;
    minor(0);
    const source = await runPod({ image: cold, ...given(0) });
    expect(await node.exec(source, 'cat', '/driver/name')).toBe('driver 0');
    expect(await mounted(source, HIDING)).toHaveLength(hooks);
    const before = await until('the process to have done something', async () => {
      const state = await look(source);
      return state.count > 100 && state;
    });
    const image = await node.checkpoint(source, name);
    await removePods();

    minor(1);
    const pod = await runPod({ image, ...given(1) });
    const after = await look(pod);
    expect(after.seen).toBe(seen(1));
    expect(after.count).toBeGreaterThan(before.count);
    expect(await node.exec(pod, 'cat', '/driver/name')).toBe('driver 1');
    expect(await mounted(pod, HIDING)).toEqual([]);
    expect(await node.exec(pod, 'stat', '-c', '%t:%T', '/dev/nvidia1')).toBe('c3:1\n');
    await removePods();

    // A cold start gets the same, and once.
    minor(1);
    fault('restore 0 2 2');
    const fresh = await runPod({ image, ...given(1) });
    expect((await look(fresh)).count).toBeLessThan(before.count);
    expect(await mounted(fresh, DRIVER)).toHaveLength(1);
    expect(await mounted(fresh, HIDING)).toHaveLength(hooks);
  });
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
