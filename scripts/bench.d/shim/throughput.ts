/** How fast a container's output gets through the shim. */
import { Code } from '../../../proto/status.ts';
import { run } from '../../../test/lib/index.ts';
import { alternate, type Turns } from '../alternate.ts';
import { BenchError } from '../error.ts';
import type { Metric } from '../report.ts';
import { type Bed, pumpProgram } from './bed.ts';
import { nodeCpu } from './cpu.ts';
import type { Lane } from './lane.ts';
import { peerName } from './peers.ts';

/** A container writes this many bytes to stdout; a reader at the fifo's other end takes the time. */
export async function measureThroughput(bed: Bed, turns: Turns, bytes: number): Promise<Metric[]> {
  const options = { holdStdio: false };
  const command = ['pump', 'write', String(bytes)];
  const lanes = {
    ours: await bed.lane('ours', 'stdout', command, options),
    peer: await bed.lane('peer', 'stdout', command, options),
  };
  const runs = await alternate(turns, (side) => transfer(lanes[side], bytes));
  return [
    {
      name: 'stdout_throughput',
      unit: 'MB/s',
      ours: runs.ours.map(({ rate }) => rate),
      peer: runs.peer.map(({ rate }) => rate),
      peerName,
    },
    {
      name: 'stdout_throughput cpu',
      unit: 'ms',
      ours: runs.ours.map(({ cpu }) => cpu),
      peer: runs.peer.map(({ cpu }) => cpu),
      peerName,
      aside: true,
    },
  ];
}

async function transfer(lane: Lane, bytes: number): Promise<{ rate: number; cpu: number }> {
  const cpu = nodeCpu();
  const { stdout, stderr } = lane.stdio;
  const readers = [
    run(pumpProgram, ['read', String(bytes), stdout]),
    // Nothing is written there, but the stock shim opens it only together with a reader.
    run('cat', [stderr]),
  ] as const;
  const [reader] = await Promise.all([...readers, lane.cycle()]);
  const ns = Number(reader.stdout);
  if (!(ns > 0)) throw new BenchError(Code.internal, `No time was taken: ${reader.stdout}`);
  return { rate: bytes / 1e6 / (ns / 1e9), cpu: nodeCpu() - cpu };
}
