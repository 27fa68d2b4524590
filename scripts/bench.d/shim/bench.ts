/** `scripts/bench shim`: our shim and containerd's own under one containerd, in turn. */
import type { Turns } from '../alternate.ts';
import { choose } from '../groups.ts';
import type { Metric, Report } from '../report.ts';
import { versions } from '../versions.ts';
import { Bed } from './bed.ts';
import { measureCycles, measureExec } from './cycles.ts';
import { measureGrowth } from './growth.ts';
import { measureIdle } from './idle.ts';
import { measureThroughput } from './throughput.ts';

export interface ShimBenchOptions {
  quick: boolean;
  /** Shows what each call of a cycle took, and how the stock shim grows. */
  profile: boolean;
  /** Names of groups; all when absent. */
  only: readonly string[] | undefined;
}

interface Group {
  name: string;
  measure(bed: Bed, options: ShimBenchOptions): Promise<Metric[]>;
}

const fullTurns: Turns = { runs: 21, budgetMs: 30_000, atLeast: 9 };
const quickTurns: Turns = { runs: 7, budgetMs: 8_000, atLeast: 3 };

const fullGrowth = { containers: 1000, idleMs: 30_000 };
/** So small that it shows a leak of descriptors, but not one of memory. */
const quickGrowth = { containers: 100, idleMs: 5000 };

const GIB = 2 ** 30;

const groups: readonly Group[] = [
  ...[1, 2, 4].map((concurrency) => ({
    name: `cycle_c${concurrency}`,
    measure: (bed: Bed, { quick, profile }: ShimBenchOptions) =>
      measureCycles(bed, {
        concurrency,
        turns: quick ? quickTurns : fullTurns,
        count: (quick ? 3 : 4) + concurrency,
        phases: profile,
      }),
  })),
  {
    name: 'exec',
    measure: (bed, { quick }) => measureExec(bed, quick ? quickTurns : fullTurns, quick ? 5 : 10),
  },
  {
    name: 'stdout',
    measure: (bed, { quick }) =>
      measureThroughput(bed, quick ? { runs: 3 } : { runs: 9, budgetMs: 40_000, atLeast: 5 }, GIB),
  },
  {
    name: 'idle',
    measure: (bed, { quick }) =>
      measureIdle(bed, { pods: 20, runs: quick ? 1 : 3, settleMs: quick ? 3000 : 5000 }),
  },
  {
    name: 'growth',
    measure: (bed, { quick, profile }) =>
      measureGrowth(bed, { ...(quick ? quickGrowth : fullGrowth), peerToo: profile }),
  },
];

export async function runShimBench(
  options: ShimBenchOptions,
  progress: (line: string) => void,
): Promise<Report> {
  const chosen = choose(groups, options.only);
  const bed = await Bed.start();
  const notes: string[] = [];
  const metrics: Metric[] = [];
  try {
    for (const group of chosen) {
      const began = performance.now();
      metrics.push(...(await group.measure(bed, options)));
      progress(`${group.name}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
    }
  } finally {
    await bed.stop();
  }
  if (options.quick && chosen.some(({ name }) => name === 'growth'))
    notes.push(
      `A quick run: after_1000 stands for ${quickGrowth.containers} containers and ${quickGrowth.idleMs / 1000} s idle`,
    );
  notes.push(await versions());
  return { bench: 'shim', metrics, notes };
}
