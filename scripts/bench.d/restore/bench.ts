/** `scripts/bench restore`: thaw, plain runc and CRIU's lazy-pages daemon restore the same files, all in memory. */
import { writeFileSync } from 'node:fs';
import type { Turns } from '../alternate.ts';
import { choose } from '../groups.ts';
import type { Metric, Report } from '../report.ts';
import { stopwatch } from '../stopwatch.ts';
import { versions } from '../versions.ts';
import { Bed, type Saved } from './bed.ts';
import { Sampler } from './curve.ts';
import {
  type Arrivals,
  arrivalMetrics,
  measureArrivals,
  measureServing,
  restorerNames,
  restorers,
} from './measure.ts';
import { plot } from './plot.ts';

export interface RestoreBenchOptions {
  quick: boolean;
  /** Names of groups; all when absent. */
  only: readonly string[] | undefined;
  /** Where to write a plot of resident memory over time. */
  plotFile: string | undefined;
}

const fullSizes = [256, 1024, 4096] as const;
const quickSizes = [256] as const;

const groups = [{ name: 'arrival' }, { name: 'serving' }] as const;

export async function runRestoreBench(
  options: RestoreBenchOptions,
  progress: (line: string) => void,
): Promise<Report> {
  const chosen = choose(groups, options.only).map(({ name }) => name);
  const sizes = options.quick ? quickSizes : fullSizes;
  const metrics: Metric[] = [];
  const notes: string[] = [];
  const arrivals = new Map<number, Arrivals>();
  // Where it cannot be written, rather now than at the end.
  if (options.plotFile !== undefined) writeFileSync(options.plotFile, '');
  const bed = await Bed.start();
  try {
    for (const mib of sizes) {
      const timed = stopwatch(progress);
      const saved = await bed.save(mib, await bed.pushWorker(mib));
      timed(`${mib} MiB saved`);
      if (chosen.includes('arrival')) {
        const measured = await measureArrivals(bed, saved, arrivalTurns(options.quick));
        arrivals.set(mib, measured);
        metrics.push(...arrivalMetrics(saved, measured));
        timed(`${mib} MiB arrival`);
      }
      if (mib === sizes.at(-1)) {
        if (chosen.includes('serving')) {
          metrics.push(...(await measureServing(bed, saved, servingTurns(options.quick))));
          notes.push(`first100 and steady_state: ${mib} MiB`);
          timed(`${mib} MiB serving`);
        }
        if (options.plotFile !== undefined) await drawPlot(bed, saved, options.plotFile);
      }
      await bed.drop(saved);
    }
  } finally {
    await bed.stop();
  }
  metrics.push(...acrossSizes(arrivals));
  notes.push(await versions());
  return { bench: 'restore', metrics, notes };
}

function arrivalTurns(quick: boolean): Turns {
  return quick ? { runs: 3 } : { runs: 7, budgetMs: 120_000, atLeast: 5 };
}

function servingTurns(quick: boolean): Turns {
  return quick ? { runs: 2, warmUp: false } : { runs: 9, budgetMs: 240_000, atLeast: 5, warmUp: false };
}

/** Whether the first heartbeat comes later where there is more memory. */
function acrossSizes(arrivals: ReadonlyMap<number, Arrivals>): Metric[] {
  const [small, large] = [arrivals.get(256), arrivals.get(4096)];
  if (small === undefined || large === undefined) return [];
  const runs = Math.min(small.restored.thaw.length, large.restored.thaw.length);
  const heartbeats = ({ restored }: Arrivals) =>
    restored.thaw.slice(0, runs).map(({ heartbeat }) => heartbeat);
  return [
    {
      name: 'first_heartbeat_4096_vs_256',
      unit: 'ms',
      ours: heartbeats(large),
      peer: heartbeats(small),
      peerName: 'thaw at 256 MiB',
    },
  ];
}

async function drawPlot(bed: Bed, saved: Saved, file: string): Promise<void> {
  const curves = [];
  for (const name of restorerNames) {
    const sampler = new Sampler();
    const actions = ['beat', `resident:${saved.pages}`];
    const { asked, outcomes } = await restorers[name].run(bed, saved, { actions, sampler });
    const beat = outcomes.find(({ action }) => action === 'beat');
    curves.push({ name, points: sampler.points, heartbeatMs: ((beat?.ended ?? Number.NaN) - asked) / 1e6 });
  }
  writeFileSync(file, plot(`Resident memory of a restored process of ${saved.mib} MiB`, curves));
}
