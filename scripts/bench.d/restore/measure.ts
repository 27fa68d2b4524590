/** What `scripts/bench restore` measures of one size. */
import { availableParallelism } from 'node:os';
import { type Turns, takeTurns } from '../alternate.ts';
import type { Metric } from '../report.ts';
import { quantile } from '../statistics.ts';
import type { Bed, Saved } from './bed.ts';
import { ask, fillMemory, type Outcome, outcome } from './probe.ts';
import type { Restored, Restorer } from './restored.ts';
import { criuLazy, runcEager } from './runc.ts';
import { thaw, thawWithFaults } from './thaw.ts';

export const restorers = { thaw, runc: runcEager, 'criu-lazy': criuLazy } as const satisfies Record<
  string,
  Restorer
>;
export type RestorerName = keyof typeof restorers;
export const restorerNames = ['thaw', 'runc', 'criu-lazy'] as const satisfies readonly RestorerName[];

/** Milliseconds from the moment the restore was asked for. */
export interface Arrival {
  returned: number;
  heartbeat: number;
  resident: number;
}

/** One sample a round. */
export interface Arrivals {
  restored: Record<RestorerName, Arrival[]>;
  /** Bytes per second of the machine itself. */
  limit: number[];
}

/** Restores by all, in turn: the first heartbeat, and the moment when all memory is there that nobody touches. */
export async function measureArrivals(bed: Bed, saved: Saved, turns: Turns): Promise<Arrivals> {
  const sides = [...restorerNames, 'limit'] as const;
  const actions = ['beat', `resident:${saved.pages}`, 'pass'];
  const samples = await takeTurns<(typeof sides)[number], Arrival | number>(sides, turns, async (side) => {
    if (side === 'limit') return saved.bytes / ((await fillMemory(saved.mib, availableParallelism())) / 1e9);
    return arrivalOf(await restorers[side].run(bed, saved, { actions }));
  });
  const of = (name: RestorerName) => samples[name].filter((sample) => typeof sample !== 'number');
  return {
    restored: { thaw: of('thaw'), runc: of('runc'), 'criu-lazy': of('criu-lazy') },
    limit: samples.limit.filter((sample) => typeof sample === 'number'),
  };
}

function arrivalOf({ asked, returned, outcomes }: Restored): Arrival {
  const since = (ns: number) => (ns - asked) / 1e6;
  return {
    returned: since(returned),
    heartbeat: since(outcome(outcomes, 'beat').ended),
    resident: since(outcome(outcomes, 'resident').ended),
  };
}

export function arrivalMetrics(saved: Saved, { restored, limit }: Arrivals): Metric[] {
  const compare = (name: string, peerName: Exclude<RestorerName, 'thaw'>, part: keyof Arrival): Metric => ({
    name: `${name}_${saved.mib}`,
    unit: 'ms',
    ours: restored.thaw.map((arrival) => arrival[part]),
    peer: restored[peerName].map((arrival) => arrival[part]),
    peerName,
  });
  return [
    compare('first_heartbeat', 'runc', 'heartbeat'),
    { ...compare('first_heartbeat', 'criu-lazy', 'heartbeat'), aside: true },
    { ...compare('call_returned', 'runc', 'returned'), aside: true },
    compare('all_resident', 'criu-lazy', 'resident'),
    { ...compare('all_resident', 'runc', 'resident'), aside: true },
    {
      name: `limit_share_${saved.mib}`,
      unit: 'GB/s',
      ours: restored.thaw.map(({ resident }) => saved.bytes / 1e6 / resident),
      peer: limit.map((rate) => rate / 1e9),
      peerName: 'memcpy into fresh memory',
    },
  ];
}

const REQUESTS = 100;
const STEADY_REQUESTS = 50;

interface Serving {
  /** Milliseconds of each of the first requests, from the moment it was due. */
  latencies: number[];
  /** Requests per second, one after the other, once all memory is there. */
  rate: number;
  /** Bytes that came because a request waited for them. */
  faultBytes: number;
}

/**
 * The first requests to a restored worker, one every so often from the moment when the restore's call returns, and the
 * pace it keeps once all is there; beside it workers that were started anew.
 */
export async function measureServing(bed: Bed, saved: Saved, turns: Turns): Promise<Metric[]> {
  const period = await choosePeriod(saved);
  const first = `requests:${REQUESTS}:${period}:1`;
  const steady = `requests:${STEADY_REQUESTS}:0:1`;
  const samples = await takeTurns(['restored', 'original', 'untouched'], turns, async (side) => {
    if (side === 'original') return servingOf(await bed.askOriginal(saved, ['beat', first, steady]), 0);
    if (side === 'untouched') {
      const actions = ['go', `resident:${saved.pages}`, 'requests:1:0:1', 'answer:1', 'pass'];
      return servingOf((await thaw.run(bed, saved, { actions })).outcomes, 0);
    }
    const actions = ['go', first, `resident:${saved.pages}`, steady, 'answer:1', 'pass'];
    const { outcomes, faultBytes } = await thawWithFaults(bed, saved, { actions });
    return servingOf(outcomes, faultBytes);
  });
  const metric = (name: string, unit: string, value: (serving: Serving) => number): Metric => ({
    name,
    unit,
    ours: samples.restored.map(value),
    peer: samples.original.map(value),
    peerName: 'an original',
  });
  return [
    metric('first100_p99', 'ms', ({ latencies }) => quantile(latencies, 0.99)),
    { ...metric('first100_p50', 'ms', ({ latencies }) => quantile(latencies, 0.5)), aside: true },
    {
      // What it costs the machine to let a process touch pages that are there already: no restore can be faster.
      name: 'first_touch',
      unit: 'ms',
      ours: samples.untouched.map(({ latencies }) => latencies[0] ?? Number.NaN),
      peer: samples.original.map(({ latencies }) => quantile(latencies, 0.5)),
      peerName: 'an original',
      aside: true,
    },
    metric('steady_state', '1/s', ({ rate }) => rate),
    {
      name: 'fault_share',
      unit: 'bytes',
      ours: samples.restored.map(({ faultBytes }) => faultBytes),
      peer: samples.restored.map(() => saved.bytes),
      peerName: 'all memory',
    },
  ];
}

/** Microseconds from request to request: the worker is busy for half of the time. */
async function choosePeriod({ originalRootfs }: Saved): Promise<number> {
  const asked = await ask(originalRootfs, ['requests:20:0:1']);
  return Math.max(1, Math.round((2 * quantile(outcome(asked, 'requests').latencies, 0.5)) / 1000));
}

function servingOf(outcomes: readonly Outcome[], faultBytes: number): Serving {
  const [first, steady] = outcomes.filter(({ action }) => action === 'requests');
  const seconds = (steady?.latencies ?? []).reduce((sum, ns) => sum + ns / 1e9, 0);
  return {
    latencies: (first?.latencies ?? []).map((ns) => ns / 1e6),
    rate: (steady?.latencies.length ?? Number.NaN) / seconds,
    faultBytes,
  };
}
