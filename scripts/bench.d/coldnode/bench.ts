/**
 * `scripts/bench coldnode`: a node that has nothing starts a restored process from a registry behind a slow link; thaw,
 * and containerd with overlayfs and plain `runc restore`.
 */
import { type Turns, takeTurns } from '../alternate.ts';
import { choose } from '../groups.ts';
import type { Metric, Report } from '../report.ts';
import { stopwatch } from '../stopwatch.ts';
import { versions } from '../versions.ts';
import { ColdBed, type Remote } from './bed.ts';
import { debianBase, minimalBase } from './images.ts';
import { type ColdStart, coldStart, type Starter, type Touch } from './starts.ts';
import { bytesPerSecond, type Gbit, linkSpeed, throttle, unthrottle } from './throttle.ts';

export interface ColdnodeBenchOptions {
  quick: boolean;
  /** Names of groups; all when absent. */
  only: readonly string[] | undefined;
  /** A Debian root with PyTorch: what the demo's image has below its server. */
  debianRoot: string | undefined;
}

const groups = [{ name: '1gbit' }, { name: '4gbit' }, { name: 'fanout' }, { name: 'realbase' }] as const;
const PEER = 'pull-unpack-restore';
const REPLICAS = 8;

export async function runColdnodeBench(
  options: ColdnodeBenchOptions,
  progress: (line: string) => void,
): Promise<Report> {
  const chosen = choose(groups, options.only).map(({ name }) => name);
  const [single, replicated] = options.quick ? [256, 256] : [4096, 1024];
  const metrics: Metric[] = [];
  const timed = stopwatch(progress);
  const cold = await ColdBed.start();
  try {
    const minimal = { name: 'minimal', layer: await minimalBase() };
    const published = new Map<number, Remote>();
    const remote = async (mib: number) => {
      const known = published.get(mib) ?? (await cold.publish(mib, minimal));
      if (!published.has(mib)) timed(`${mib} MiB published`);
      published.set(mib, known);
      return known;
    };
    for (const gbit of [1, 4] as const) {
      if (!chosen.includes(`${gbit}gbit`)) continue;
      metrics.push(await measureThrottle(cold, await remote(single), gbit));
      metrics.push(...(await measureStarts(cold, await remote(single), gbit, turns(options.quick))));
      timed(`${gbit} Gbit/s`);
    }
    if (chosen.includes('fanout')) {
      metrics.push(...(await measureFanout(cold, await remote(replicated), turns(options.quick))));
      timed('fanout');
    }
    if (chosen.includes('realbase') && options.debianRoot !== undefined) {
      const base = { name: 'debian', layer: await debianBase(options.debianRoot, cold.dir) };
      const large = await cold.publish(single, base);
      timed(`${single} MiB on PyTorch published`);
      metrics.push(...(await measureRealBase(cold, large, turns(options.quick))));
      timed('realbase');
    }
  } finally {
    await cold.stop();
  }
  const notes = [
    `One process: ${single} MiB; ${REPLICAS} at once over 1 Gbit/s: ${replicated} MiB each; minimal base image but for realbase`,
    "eStargz is left out: Debian's stargz-snapshotter package has only ctr-remote, and no snapshotter that mounts such an image",
    await versions(),
  ];
  return { bench: 'coldnode', metrics, notes };
}

/** Every run has an empty node, so there is nothing to warm up. */
function turns(quick: boolean): Turns {
  return quick ? { runs: 1, warmUp: false } : { runs: 3, warmUp: false };
}

/** Whether the link is as fast as it claims. */
async function measureThrottle(cold: ColdBed, remote: Remote, gbit: Gbit): Promise<Metric> {
  await cold.empty();
  const url = await cold.largestBlob(remote.image);
  await throttle(gbit);
  try {
    const measured = [await linkSpeed(url), await linkSpeed(url)];
    return {
      name: `plain download at ${gbit} Gbit/s`,
      unit: 'MB/s',
      ours: measured.map((rate) => rate / 1e6),
      peer: measured.map(() => bytesPerSecond(gbit) / 1e6),
      peerName: 'the link',
      aside: true,
    };
  } finally {
    await unthrottle();
  }
}

/** Which starts are compared, and what is asked of each. */
const kinds = {
  thaw: { starter: 'thaw', touch: 'answer:1' },
  peer: { starter: PEER, touch: 'answer:1' },
  whole: { starter: 'thaw-whole', touch: 'answer:1' },
  runs: { starter: 'thaw', touch: 'answer:256' },
  touchAll: { starter: 'thaw', touch: 'pass' },
  untouched: { starter: 'thaw', touch: 'nothing' },
} as const satisfies Record<string, { starter: Starter; touch: Touch }>;
type Kind = keyof typeof kinds;

async function measureStarts(cold: ColdBed, remote: Remote, gbit: Gbit, turns: Turns): Promise<Metric[]> {
  // What more than a second rate does not tell anything new about is taken at the first alone.
  const sides: Kind[] =
    gbit === 1 ? ['thaw', 'peer', 'whole', 'runs', 'touchAll', 'untouched'] : ['thaw', 'peer', 'whole'];
  const samples = await takeTurns(sides, turns, async (kind) => {
    const [start] = await coldStart(cold, remote, { ...kinds[kind], gbit });
    return start;
  });
  const of = (kind: Kind) => samples[kind].filter((start) => start !== undefined);
  const compare = (name: string, unit: string, kind: Kind, peerName: string) => (part: keyof ColdStart) => ({
    name: `${name}_${gbit}gbit`,
    unit,
    ours: of('thaw').map((start) => start[part]),
    peer: of(kind).map((start) => start[part]),
    peerName,
  });
  const rate = bytesPerSecond(gbit);
  return [
    compare('first_answer', 'ms', 'peer', PEER)('touched'),
    { ...compare('first_answer', 'ms', 'whole', 'our image pulled whole')('touched'), aside: true },
    { ...compare('pulled', 'ms', 'peer', PEER)('pulled'), aside: true },
    { ...compare('start_returned', 'ms', 'peer', PEER)('started'), aside: true },
    { ...compare('first_heartbeat', 'ms', 'peer', PEER)('heartbeat'), aside: true },
    { ...compare('pass', 'ms', 'peer', PEER)('pass'), aside: true },
    { ...compare('all_resident', 'ms', 'peer', PEER)('resident'), aside: true },
    { ...compare('fetched', 'bytes', 'peer', PEER)('fetched'), aside: true },
    {
      name: `link_use_${gbit}gbit`,
      unit: 'MB/s',
      // From PullImage to the last byte.
      ours: of('thaw').map(({ fetched, downloaded }) => fetched / 1e3 / downloaded),
      peer: of('thaw').map(() => rate / 1e6),
      peerName: 'the link',
    },
    {
      // A link that is not full, with processors that are: they are shared with the registry and the throttle here.
      name: `cores_busy_${gbit}gbit`,
      unit: 'share',
      ours: of('thaw').map(({ busy }) => busy),
      peer: of('thaw').map(() => 1),
      peerName: 'all cores',
      aside: true,
    },
    ...(gbit === 1
      ? [
          {
            name: 'first_answer_runs_1gbit',
            unit: 'ms',
            ours: of('runs').map((start) => start.touched),
            // All of its memory is there by then: which tenth is read makes no difference.
            peer: of('peer').map((start) => start.touched),
            peerName: PEER,
          },
          touchAllMetric(of('touchAll'), of('untouched'), rate),
        ]
      : []),
  ];
}

/** A pass over all memory asked for at once, against what it cannot be faster than: the link, and the drain untouched. */
function touchAllMetric(
  touched: readonly ColdStart[],
  untouched: readonly ColdStart[],
  bytesPerSecond: number,
): Metric {
  return {
    name: 'touch_all_overlap',
    unit: 'ms',
    ours: touched.map((start) => start.touched),
    peer: untouched.map(({ resident, fetched }) => Math.max(resident, (fetched / bytesPerSecond) * 1000)),
    peerName: 'link or drain',
  };
}

/** The same start where the base image is as large as a model server's, and not on the node either. */
async function measureRealBase(cold: ColdBed, remote: Remote, turns: Turns): Promise<Metric[]> {
  const samples = await takeTurns(['thaw', 'peer'], turns, async (kind) => {
    const [start] = await coldStart(cold, remote, { ...kinds[kind], gbit: 1 });
    return start;
  });
  const of = (kind: 'thaw' | 'peer') => samples[kind].filter((start) => start !== undefined);
  const compare = (name: string, unit: string, part: keyof ColdStart): Metric => ({
    name,
    unit,
    ours: of('thaw').map((start) => start[part]),
    peer: of('peer').map((start) => start[part]),
    peerName: PEER,
  });
  return [
    compare('first_answer_realbase_1gbit', 'ms', 'touched'),
    { ...compare('fetched_realbase_1gbit', 'bytes', 'fetched'), aside: true },
  ];
}

async function measureFanout(cold: ColdBed, remote: Remote, turns: Turns): Promise<Metric[]> {
  const samples = await takeTurns(['many', 'one'], turns, (side) =>
    coldStart(cold, remote, {
      starter: 'thaw',
      gbit: 1,
      touch: 'answer:1',
      count: side === 'many' ? REPLICAS : 1,
    }),
  );
  const last = (starts: readonly ColdStart[]) => Math.max(...starts.map(({ touched }) => touched));
  const fetched = ([start]: readonly ColdStart[]) => start?.fetched ?? Number.NaN;
  const metric = (name: string, unit: string, value: (starts: readonly ColdStart[]) => number): Metric => ({
    name,
    unit,
    ours: samples.many.map(value),
    peer: samples.one.map(value),
    peerName: 'one alone',
  });
  return [metric('fanout8_fetched', 'bytes', fetched), metric('fanout8_last_ready', 'ms', last)];
}
