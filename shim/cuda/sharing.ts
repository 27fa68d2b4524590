/** Whether processes may share GPU memory that a checkpoint would lose. Pure. */
import { annotationOf } from '../annotation.ts';
import type { Peer } from './peers.ts';

/** The first driver that saves shared memory, of processes that NVIDIA's cuda-checkpoint has started as one job. */
const FIRST_DRIVER = 610;
/** On a pod: "independent" says that no GPU memory is shared, between processes, containers or GPUs. */
const ANNOTATION = 'thaw.dev/gpu-processes';
const MOST_NAMED = 3;

export interface Sharers {
  /** How many of the container's own use CUDA. */
  processes: number;
  /** Whether one of these has memory on several GPUs, which may have access to each other's. */
  isSpread: boolean;
  /** Those of others on its GPUs. */
  peers: readonly Peer[];
}

/**
 * Driver 580 takes a process that has memory of another's open off the GPU without an error and cannot put it back; one
 * whose memory another has open comes back with a copy of its own, which is shared no more (seen with 580: `ipc_peer` and
 * `ipc_container` of test/gpu/results.json). It loses one whose GPUs have access to each other too (`two_gpus`). Nothing
 * tells beforehand who shares.
 */
export function sharingRisk(
  { processes, isSpread, peers }: Sharers,
  driver: string,
  annotations: Readonly<Record<string, string>> = {},
): string | undefined {
  if (processes < 2 && !isSpread && peers.length === 0) return undefined;
  const [name, value] = annotationOf(annotations, ANNOTATION) ?? [];
  if (value === 'independent') return undefined;
  const said = value === undefined ? '' : `; ${name} is "${value}"`;
  const way = `if nothing is shared, give the pod the annotation ${ANNOTATION}: independent${said}`;
  if (peers.length > 0)
    return `${named(peers)} outside the container ${peers.length === 1 ? 'has' : 'have'} its GPU in use too, and GPU memory shared with another container (CUDA IPC, as NCCL does) would be lost: ${way}`;
  if (isSpread)
    return `one of its processes uses several GPUs, and NVIDIA driver ${driver} would lose it if these have access to each other's memory (peer access): ${way}`;
  const why =
    Number.parseInt(driver, 10) >= FIRST_DRIVER
      ? `NVIDIA driver ${driver} saves GPU memory that they share (CUDA IPC, as NCCL does) only in a job of cuda-checkpoint, which thaw does not drive`
      : `NVIDIA driver ${driver} would lose them if they share GPU memory (CUDA IPC, as NCCL does)`;
  return `${processes} of its processes use the GPU, and ${why}: ${way}`;
}

function named(peers: readonly Peer[]): string {
  const names = peers.slice(0, MOST_NAMED).map(({ pid, name }) => (name ? `${pid} (${name})` : `${pid}`));
  const more = peers.length > MOST_NAMED ? ` and ${peers.length - MOST_NAMED} more` : '';
  return `${peers.length === 1 ? 'process' : 'processes'} ${names.join(', ')}${more}`;
}
