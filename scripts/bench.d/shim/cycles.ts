/** Latency: whole lives of containers, side by side or not, and execs. */
import { alternate, type Side, type Sides, type Turns } from '../alternate.ts';
import type { Metric } from '../report.ts';
import { median } from '../statistics.ts';
import type { Bed } from './bed.ts';
import { nodeCpu } from './cpu.ts';
import type { Cost, Lane, Phases } from './lane.ts';
import { peerName } from './peers.ts';

export interface CycleOptions {
  /** Containers that are worked on at a time. */
  concurrency: number;
  /** Blocks of each side. */
  turns: Turns;
  /** Containers a block. */
  count: number;
  /** Adds what each call took. */
  phases: boolean;
}

/** Each container's share. */
interface Block extends Cost {
  phases: Phases[];
}

const phaseNames = ['create', 'start', 'exit', 'delete'] as const;

/** Create, Wait, Start, the answer of Wait, Delete of a container that does nothing. */
export async function measureCycles(bed: Bed, options: CycleOptions): Promise<Metric[]> {
  const { concurrency, turns, count } = options;
  const lanes = await bothSides((side) =>
    Promise.all(
      Array.from({ length: concurrency }, (_, i) => bed.lane(side, `c${concurrency}-${i}`, ['true'])),
    ),
  );
  const blocks = await alternate(turns, (side) => cycleBlock(lanes[side], count));
  const name = `cycle_c${concurrency}`;
  return [
    metric(name, blocks, (block) => block.wall),
    { ...metric(`${name} cpu`, blocks, (block) => block.cpu), aside: true },
    ...(options.phases ? phaseMetrics(name, blocks, concurrency === 1) : []),
  ];
}

/** Processor time has no owner where several containers are worked on at a time. */
function phaseMetrics(name: string, blocks: Sides<Block[]>, withCpu: boolean): Metric[] {
  const kinds = withCpu ? (['wall', 'cpu'] as const) : (['wall'] as const);
  return phaseNames.flatMap((phase) =>
    kinds.map((kind) => ({
      ...metric(`${name} ${phase}${kind === 'cpu' ? ' cpu' : ''}`, blocks, (block) =>
        median(block.phases.map((phases) => phases[phase][kind])),
      ),
      aside: true,
    })),
  );
}

async function cycleBlock(lanes: readonly Lane[], count: number): Promise<Block> {
  const phases: Phases[] = [];
  let left = count;
  const work = async (lane: Lane) => {
    while (left-- > 0) phases.push(await lane.cycle());
  };
  const { wall, cpu } = await timed(count, async () => {
    await Promise.all(lanes.map(work));
  });
  return { wall, cpu, phases };
}

/** Exec, Wait, Start, the answer of Wait, Delete of `true` in a running container. */
export async function measureExec(bed: Bed, turns: Turns, count: number): Promise<Metric[]> {
  const lanes = await bothSides((side) => bed.lane(side, 'exec', ['sleep', '100000']));
  for (const lane of [lanes.ours, lanes.peer]) await lane.up();
  const blocks = await alternate(turns, (side) =>
    timed(count, async () => {
      for (let i = 0; i < count; i++) await lanes[side].exec(['true']);
    }),
  );
  for (const lane of [lanes.ours, lanes.peer]) await lane.down();
  return [
    metric('exec', blocks, (block) => block.wall),
    { ...metric('exec cpu', blocks, (block) => block.cpu), aside: true },
  ];
}

async function timed(count: number, work: () => Promise<void>): Promise<Cost> {
  const cpu = nodeCpu();
  const began = performance.now();
  await work();
  return { wall: (performance.now() - began) / count, cpu: (nodeCpu() - cpu) / count };
}

async function bothSides<T>(make: (side: Side) => Promise<T>): Promise<Sides<T>> {
  return { ours: await make('ours'), peer: await make('peer') };
}

function metric<T>(name: string, blocks: Sides<T[]>, value: (block: T) => number): Metric {
  return { name, unit: 'ms', ours: blocks.ours.map(value), peer: blocks.peer.map(value), peerName };
}
