/** What an idle pod costs in memory. */
import { Code } from '../../../proto/status.ts';
import { sleep } from '../../../test/lib/index.ts';
import { alternate, type Side } from '../alternate.ts';
import { BenchError } from '../error.ts';
import type { Metric } from '../report.ts';
import type { Bed } from './bed.ts';
import type { Lane } from './lane.ts';
import { peerName } from './peers.ts';
import { inPool } from './pool.ts';
import { type Memory, memoryOf, nodeProcesses } from './proc.ts';

/** Pods that are started or stopped at a time; that is not measured. */
const WORKERS = 4;

export interface IdleOptions {
  pods: number;
  runs: number;
  /** Between the last pod's start and the look at their memory. */
  settleMs: number;
}

/** Pods of one sleeping container each; memory of every process that came with them, but for those in the containers. */
export async function measureIdle(bed: Bed, { pods, runs, settleMs }: IdleOptions): Promise<Metric[]> {
  const numbers = Array.from({ length: pods }, (_, i) => i);
  const make = (side: Side) =>
    inPool(numbers, WORKERS, (i) => bed.lane(side, `idle-${i}`, ['sleep', '100000']));
  const lanes = { ours: await make('ours'), peer: await make('peer') };
  const found = await alternate({ runs, warmUp: false }, (side) => once(lanes[side], settleMs));
  const metric = (name: string, value: (memory: Memory) => number): Metric => ({
    name,
    unit: 'MB',
    ours: found.ours.map((memory) => value(memory) / pods / 1e6),
    peer: found.peer.map((memory) => value(memory) / pods / 1e6),
    peerName,
  });
  return [
    metric('idle_private_memory', ({ privateBytes }) => privateBytes),
    metric('idle_pss', ({ pss }) => pss),
  ];
}

async function once(lanes: readonly Lane[], settleMs: number): Promise<Memory> {
  const before = new Set(nodeProcesses().map(({ pid }) => pid));
  await inPool(lanes, WORKERS, (lane) => lane.up());
  await sleep(settleMs);
  const shims = nodeProcesses().filter(({ pid }) => !before.has(pid));
  if (shims.length < lanes.length)
    throw new BenchError(
      Code.failedPrecondition,
      `Found ${shims.length} processes for ${lanes.length} idle pods: their shims are not their own`,
    );
  const memory = memoryOf(shims.map(({ pid }) => pid));
  await inPool(lanes, WORKERS, (lane) => lane.down());
  return memory;
}
