/** A node with the fake NVIDIA driver of test/fake-libcuda, as many GPUs as a test says, and containers that use them. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TomlTable } from 'smol-toml';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import {
  assertNothingLeft,
  containerdVersion,
  type Leftovers,
  privateDir,
  takeStock,
  until,
} from './index.ts';
import { KubeletNode, type Pod, type PodRequest } from './kubelet-node.ts';

const BUILD = join(import.meta.dirname, '../../build/test');
/** A name by which a mount counts as a GPU: no trial restore takes the memory of the first. */
export const DIRECTORY = '/dev/nvidia-fake';
const LIBRARY = `${DIRECTORY}.so`;
const uuid = (digit: number) => `GPU-0000000${digit}-1111-2222-3333-444444444444`;
export const gpuLine = (digit: number, name = 'Fake H100') =>
  `${uuid(digit)} ${digit} 85520809984 0 1 0 ${name}\n`;
export const command = (...more: string[]) => ['/bin/fake-cuda-process', '/gpu', 'secret', ...more];
export const repository = 'test/gpu';

/** Of the driver's files on the node, by GPU, and of what gives them to containers. */
export const FILES = privateDir('gpu');
const WRAPPER = `${FILES}/fake-nvidia-container-runtime`;
/** By its name and what it is told it is known for one that no restore needs. */
const CDI_HOOK = `${FILES}/nvidia-cdi-hook`;
/** Its handler. */
export const WRAPPED = 'thaw-wrapped';

export let node: KubeletNode;
/** An image with a program that uses the GPU. */
export let cold: string;
let stock: Leftovers;
const pods: Pod[] = [];

export function reset(gpus = gpuLine(0)): void {
  writeFileSync(`${DIRECTORY}/gpus`, gpus);
  writeFileSync(`${DIRECTORY}/faults`, '');
  writeFileSync(`${DIRECTORY}/log`, '');
}

export function run(image: string, ...more: string[]): Promise<Pod> {
  return runPod({ image, command: command(...more) });
}

export async function runPod(request: PodRequest): Promise<Pod> {
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
          args: ['nvidia-cdi-hook', 'disable-device-node-modification'],
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
export async function look(pod: Pod, name = '/state'): Promise<{ count: number; seen: string }> {
  const read = async () => (await node.exec(pod, 'cat', name).catch(() => '')).trim();
  const first = await until('the process to write its state', read);
  const text = await until('the process to go on', async () => {
    const next = await read();
    return next !== '' && next !== first && next;
  });
  const [count, ...seen] = text.split(' ');
  return { count: Number(count), seen: seen.join(' ') };
}

export const seen = (gpu = 0) => `cpu=secret file=secret gpu=secret on=${uuid(gpu)}`;
export const calls = () =>
  readFileSync(`${DIRECTORY}/log`, 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[0]);

/** What shims have logged since. */
export function logs(): () => string {
  const before = node.shimLog().length;
  return () => node.shimLog().slice(before);
}

/** What becomes of the next calls of the driver: see fake-libcuda/README.md. */
export function fault(line: string): void {
  writeFileSync(`${DIRECTORY}/faults`, `${line}\n`);
}

export async function removePods(): Promise<void> {
  for (const pod of pods.splice(0)) await node.removePod(pod);
}

/** Further than one that starts anew gets while it is looked at. */
export function lookLate(pod: Pod): ReturnType<typeof look> {
  return until('the process to have done something', async () => {
    const state = await look(pod);
    return state.count > 100 && state;
  });
}

/** Called once by a file, at its top: the node is there before its own hooks run. */
export function useGpuNode(): void {
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
    cpSync(join(import.meta.dirname, '../fixtures/fake-nvidia-container-runtime'), WRAPPER);
    cpSync(join(import.meta.dirname, '../fixtures/fake-nvidia-cdi-hook'), CDI_HOOK);
    node = await KubeletNode.start({ extra: await settings() });
    const program = {
      path: 'bin/fake-cuda-process',
      mode: 0o755,
      content: readFileSync(join(BUILD, 'fake-cuda-process')),
    };
    const library = { path: 'libcuda.so.1', content: 'x'.repeat(4096) };
    cold = await node.pushImage(repository, [program, library], command());
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
}
