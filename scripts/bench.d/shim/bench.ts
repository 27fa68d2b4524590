/** `scripts/bench shim`: our shim and containerd's own under one containerd, in turn. */
import { Code } from '../../../proto/status.ts';
import type { Turns } from '../alternate.ts';
import { BenchError } from '../error.ts';
import type { Metric, Report } from '../report.ts';
import { Bed } from './bed.ts';
import { measureCycles, measureExec } from './cycles.ts';
import { versions } from './versions.ts';

export interface ShimBenchOptions {
  quick: boolean;
  /** Shows what each call of a cycle took. */
  profile: boolean;
  /** Names of groups; all when absent. */
  only: readonly string[] | undefined;
}

interface Group {
  name: string;
  measure(bed: Bed, options: ShimBenchOptions): Promise<Metric[]>;
}

const fullTurns: Turns = { runs: 21, budgetMs: 40_000, atLeast: 9 };
const quickTurns: Turns = { runs: 7, budgetMs: 10_000, atLeast: 3 };

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
];

export async function runShimBench(
  options: ShimBenchOptions,
  progress: (line: string) => void,
): Promise<Report> {
  const chosen = choose(options.only);
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
  notes.push(await versions());
  return { bench: 'shim', metrics, notes };
}

function choose(only: readonly string[] | undefined): readonly Group[] {
  if (only === undefined) return groups;
  const names = groups.map(({ name }) => name);
  const unknown = only.find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new BenchError(Code.invalidArgument, `Unknown measurement '${unknown}': use ${names.join(', ')}`);
  return groups.filter(({ name }) => only.includes(name));
}
