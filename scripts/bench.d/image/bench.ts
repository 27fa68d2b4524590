/**
 * `scripts/bench image`: images on a node that has nothing of them, registry behind 1 Gbit/s; thaw with lazy layers,
 * containerd with overlayfs, and with stargz-snapshotter.
 */
import { describeError } from '../../../proto/status.ts';
import { alternate, type Side, type Sides, type Turns } from '../alternate.ts';
import { ColdBed } from '../coldnode/bed.ts';
import { choose } from '../groups.ts';
import type { Metric, Report } from '../report.ts';
import { STARGZ, StargzDaemon, stargzVersion } from '../stargz/index.ts';
import { stopwatch } from '../stopwatch.ts';
import { versions } from '../versions.ts';
import { type Published, publish } from './publish.ts';
import { type Recipe, recipes } from './recipes.ts';
import { readAll, type Start, type StartKind, startOnce } from './starts.ts';
import { measureWarmReads } from './warm-reads.ts';

export interface ImageBenchOptions {
  quick: boolean;
  /** Names of groups; all when absent. */
  only: readonly string[] | undefined;
  /** Folder with the Debian roots that scripts/bench made. */
  roots: string;
}

const groups = [
  { name: 'cold' },
  { name: 'order' },
  { name: 'stargz' },
  { name: 'restore' },
  { name: 'read' },
  { name: 'warm' },
] as const;
const imageNames = [{ name: 'pytorch' }, { name: 'node' }, { name: 'shell' }] as const;
const OVERLAYFS = 'overlayfs';
/** By the kind of a start. */
const PEERS = {
  cold: OVERLAYFS,
  order: 'lazy, without an order',
  restore: 'pull-unpack-restore',
  stargz: STARGZ,
} as const;
/** In the names of metrics. */
const KINDS = { cold: 'cold', order: 'order', restore: 'restore', stargz: 'cold_vs_stargz' } as const;

export async function runImageBench(
  { quick, only, roots }: ImageBenchOptions,
  progress: (line: string) => void,
): Promise<Report> {
  // "--only cold,shell": this group of the one image.
  const named = choose([...groups, ...imageNames], only).map(({ name }) => name as string);
  const pick = (all: readonly { name: string }[]) => {
    const chosen = all.map(({ name }) => name).filter((name) => named.includes(name));
    return chosen.length > 0 ? chosen : all.map(({ name }) => name);
  };
  const [chosen, images] = [pick(groups), pick(imageNames)];
  const turns: Turns = quick ? { runs: 1, warmUp: false } : { runs: 3, warmUp: false };
  const metrics: Metric[] = [];
  const timed = stopwatch(progress);
  const failures: string[] = [];
  const stargz = chosen.includes('stargz') ? await StargzDaemon.start() : undefined;
  const cold = await ColdBed.start(stargz);
  const measureImage = async (recipe: Recipe) => {
    const published = await publish(cold, recipe, roots, { withEstargz: stargz !== undefined });
    timed(`${recipe.name} published`);
    for (const kind of ['cold', 'order', 'stargz', 'restore'] as const) {
      if (!chosen.includes(kind)) continue;
      const starts = await alternate(turns, (side) => startOnce(cold, published, side, kind));
      metrics.push(...startMetrics(published, kind, starts));
      timed(`${recipe.name}, ${kind} starts`);
    }
    if (chosen.includes('read')) {
      metrics.push(...(await measureReadAll(cold, published, turns)));
      timed(`${recipe.name}, all files read`);
    }
    if (chosen.includes('warm') && recipe.name === 'pytorch') {
      const several = quick ? { runs: 1 } : { runs: 5 };
      metrics.push(...(await measureWarmReads(cold, published, several)));
      timed('warm reads');
    }
  };
  try {
    for (const recipe of recipes(quick).filter(({ name }) => images.includes(name))) {
      try {
        await measureImage(recipe);
      } catch (error) {
        failures.push(`${recipe.name}: ${describeError(error).message}`);
      }
    }
  } finally {
    await cold.stop();
    await stargz?.halt();
  }
  const notes = [
    ...(stargz ? [stargzVersion()] : []),
    'metrics without the name of an image are those of the PyTorch server',
    ...(quick ? ["quick: the demo's small server without PyTorch stands for the one with it"] : []),
    await versions(),
  ];
  return { bench: 'image', metrics, notes, failures };
}

const suffix = ({ recipe: { name } }: Published) => (name === 'pytorch' ? '' : `_${name}`);

function startMetrics(published: Published, kind: StartKind, starts: Sides<Start[]>): Metric[] {
  const metric = (name: string, unit: string, part: keyof Start): Metric => {
    const of = (side: Side) => starts[side].map((start) => start[part]);
    return {
      name: `${name}_${KINDS[kind]}${suffix(published)}`,
      unit,
      ours: of('ours'),
      peer: of('peer'),
      peerName: PEERS[kind],
      // Ours against ours.
      ...(kind === 'order' ? { aside: true } : {}),
    };
  };
  return [
    metric('first_answer', 'ms', 'answered'),
    { ...metric('pulled', 'ms', 'pulled'), aside: true },
    metric('sent_by_answer', 'bytes', 'sentByAnswer'),
    metric('sent', 'bytes', 'sent'),
  ];
}

/** Ours with all files read, against the peer's pull and unpack; and with all files read on both sides. */
async function measureReadAll(cold: ColdBed, published: Published, turns: Turns): Promise<Metric[]> {
  const runs = await alternate(turns, (side) => readAll(cold, published, side));
  const ours = runs.ours.map(({ read }) => read);
  const name = `read_all${suffix(published)}`;
  return [
    { name, unit: 'ms', ours, peer: runs.peer.map(({ pulled }) => pulled), peerName: OVERLAYFS },
    {
      name: `${name}_both`,
      unit: 'ms',
      ours,
      peer: runs.peer.map(({ read }) => read),
      peerName: 'overlayfs, files read too',
      aside: true,
    },
    {
      name: `${name}_bytes`,
      unit: 'bytes',
      ours: runs.ours.map(({ bytes }) => bytes),
      peer: runs.peer.map(({ bytes }) => bytes),
      peerName: OVERLAYFS,
      aside: true,
    },
  ];
}
