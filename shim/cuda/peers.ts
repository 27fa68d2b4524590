/**
 * Processes of others on the GPUs of a container. GPU memory can be shared with these, and nothing tells with which it is:
 * seen with driver 580, memory that another process has open (CUDA IPC, or a file descriptor handed over) shows nowhere in
 * /proc, and it takes no namespace in common to open it (`ipc_container` of test/gpu/results.json).
 */
import { readFile } from 'node:fs/promises';
import type { Gpu, GpuUse } from './driver.ts';
import { linksOf } from './processes.ts';

export interface Peer {
  pid: number;
  /** As /proc/PID/comm has it; empty if it is gone. */
  name: string;
}

export interface PeerDeps {
  /** What the file descriptors of a process are. */
  links(pid: number): Promise<string[]>;
  name(pid: number): Promise<string>;
}

const procfs: PeerDeps = {
  links: linksOf,
  name: async (pid) => (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')).trimEnd(),
};

/** The programs of MPS, whose clients the driver itself refuses to save. The kernel cuts names off after 15 characters. */
const MPS = 'nvidia-cuda-mps';

/**
 * Those outside the container, whose processes are `own`, that compute on any GPU and have one of the container's in use
 * or open. One that only watches GPUs (NVML, DCGM) computes on none.
 */
export async function gpuPeers(
  own: ReadonlySet<number>,
  gpus: readonly Pick<Gpu, 'uuid' | 'minor'>[],
  uses: readonly GpuUse[],
  deps: PeerDeps = procfs,
): Promise<Peer[]> {
  const uuids = new Set(gpus.map(({ uuid }) => uuid));
  const devices = new Set(gpus.map(({ minor }) => `/dev/nvidia${minor}`));
  const peers: Peer[] = [];
  for (const pid of new Set(uses.map((use) => use.pid))) {
    if (own.has(pid)) continue;
    const hasOne =
      uses.some((use) => use.pid === pid && uuids.has(use.gpu)) ||
      (await deps.links(pid)).some((link) => devices.has(link));
    const name = hasOne ? await deps.name(pid) : MPS;
    if (name !== MPS) peers.push({ pid, name });
  }
  return peers;
}
