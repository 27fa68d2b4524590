import { expect, it } from 'vitest';
import { gpuPeers } from './peers.ts';

const GPUS = [{ uuid: 'GPU-0', minor: 0 }];
const deps = {
  links: async (pid: number) =>
    pid === 7 ? ['/dev/nvidiactl', '/dev/nvidia0'] : ['/dev/nvidiactl', '/dev/nvidia1'],
  name: async (pid: number) => (pid === 9 ? 'nvidia-cuda-mps' : 'python3'),
};
const use = (pid: number, gpu: string) => ({ pid, gpu, bytes: 1 });

it.each([
  ['the container itself', [use(5, 'GPU-0')], []],
  ['another process on its GPU, and on one more', [use(5, 'GPU-0'), use(6, 'GPU-0'), use(6, 'GPU-1')], [6]],
  ['one that computes on another GPU and has its open', [use(7, 'GPU-1')], [7]],
  ['one on another GPU', [use(8, 'GPU-1')], []],
  ['the server of MPS', [use(9, 'GPU-0')], []],
])('%s', async (_, uses, pids) => {
  const peers = await gpuPeers(new Set([5]), GPUS, uses, deps);
  expect(peers).toEqual(pids.map((pid) => ({ pid, name: 'python3' })));
});
