/**
 * `scripts/bench snapshotter`: thaw's snapshotter, stargz-snapshotter and containerd's own overlayfs, all behind one
 * containerd.
 */
import { join } from 'node:path';
import { Code } from '../../../proto/status.ts';
import { ThawDaemon } from '../../../test/conformance/thaw-daemon.ts';
import { Disk } from '../../../test/lib/disk.ts';
import { privateDir } from '../../../test/lib/index.ts';
import { type Turns, takeTurns } from '../alternate.ts';
import { minimalBase, packFolder, pushImage } from '../coldnode/images.ts';
import { BenchError } from '../error.ts';
import { choose } from '../groups.ts';
import type { Metric, Report } from '../report.ts';
import { memoryOf } from '../shim/proc.ts';
import { STARGZ, StargzDaemon, stargzVersion } from '../stargz/index.ts';
import { quantile } from '../statistics.ts';
import { stopwatch } from '../stopwatch.ts';
import { versions } from '../versions.ts';
import { Bed, type SnapshotterSide, sides } from './bed.ts';
import { flushes } from './flush.ts';
import { CALLS, type Call, cycle, fill, type Load, list, stat } from './load.ts';

export interface SnapshotterBenchOptions {
  quick: boolean;
  /** Names of groups; all when absent. */
  only: readonly string[] | undefined;
}

const groups = [{ name: 'cycles' }, { name: 'p99' }, { name: 'many' }, { name: 'unpack' }] as const;
const OVERLAYFS = 'overlayfs';
const MANY_CLIENTS = 64;
/** What a call of many may take at the most, unless the disk is slower. */
const BOUND_MS = 50;
/**
 * Flushes that a call may wait for one after the other: of the folder and of the log, and before each the one under way.
 * Mounts waits for none.
 */
const FLUSHES: Readonly<Record<Call, number>> = { prepare: 2, mounts: 0, commit: 4, remove: 2 };
/** Folders of the node's Debian, a layer each. */
const FOLDERS = ['/usr/bin', '/usr/sbin', '/usr/libexec', '/usr/lib', '/usr/share'];

type Samples = Readonly<Record<SnapshotterSide, number[]>>;

export async function runSnapshotterBench(
  { quick, only }: SnapshotterBenchOptions,
  progress: (line: string) => void,
): Promise<Report> {
  const chosen = choose(groups, only).map(({ name }) => name);
  const timed = stopwatch(progress);
  const metrics: Metric[] = [];
  const bed = await Bed.start();
  try {
    if (chosen.includes('cycles')) {
      metrics.push(...(await measureCycles(bed, quick)));
      timed('cycles');
    }
    if (chosen.includes('p99')) {
      metrics.push(...(await measureP99(quick)));
      timed('p99');
    }
    // Before there is a crowd: a pull walks all snapshots of its namespace.
    if (chosen.includes('unpack')) {
      metrics.push(...(await measureUnpack(bed, quick ? { runs: 1, warmUp: false } : { runs: 5 })));
      timed('unpack');
    }
    if (chosen.includes('many')) {
      metrics.push(...(await measureMany(bed, quick ? 1_000 : 10_000, quick ? { runs: 3 } : { runs: 9 })));
      timed('many');
    }
  } finally {
    await bed.stop();
  }
  const notes = [
    stargzVersion(),
    'overlayfs runs inside containerd, thaw and stargz behind one more connection',
    await versions(),
  ];
  return { bench: 'snapshotter', metrics, notes };
}

/** Ours against the peer of the target, and aside against the other one. */
function against(
  name: string,
  unit: string,
  samples: Samples,
  peer: Exclude<SnapshotterSide, 'thaw'>,
  { aside = false } = {},
): Metric[] {
  const other = peer === STARGZ ? OVERLAYFS : STARGZ;
  const metric = { name, unit, ours: samples.thaw };
  return [
    { ...metric, peer: samples[peer], peerName: peer, ...(aside ? { aside } : {}) },
    { ...metric, peer: samples[other], peerName: other, aside: true },
  ];
}

async function measureCycles(bed: Bed, quick: boolean): Promise<Metric[]> {
  const turns = quick ? { runs: 2 } : { runs: 5 };
  const ms = quick ? 1_000 : 4_000;
  const metrics: Metric[] = [];
  for (const count of [1, 16, MANY_CLIENTS]) {
    const loads = await takeTurns(sides, turns, (side) => cycle(bed.target(side), count, ms));
    const aside = count === MANY_CLIENTS;
    const rates = ofEach(loads, ({ cycles, seconds }) => cycles / seconds);
    metrics.push(...against(`cycles_c${count}`, '1/s', rates, STARGZ, { aside }));
    if (!aside) continue;
    const slowest = ofEach(loads, (load) => quantile(allOf(load), 0.99));
    metrics.push(...against(`p99_c${count} through containerd`, 'ms', slowest, STARGZ, { aside }));
  }
  return metrics;
}

/**
 * Of the daemons themselves: containerd has a database of its own in the way, which writes twice for each call and lets one
 * write at a time.
 */
async function measureP99(quick: boolean): Promise<Metric[]> {
  // As a node's file system has one. Without, ext4 looks for each new folder through all inodes that were deleted lately
  // (recently_deleted in fs/ext4/ialloc.c), and the calls of this bench wait for little else.
  const disk = await Disk.make('4G', { journalTimer: true });
  const metrics: Metric[] = [];
  try {
    metrics.push(...(await p99On(disk.path, quick)));
  } finally {
    await disk.remove();
  }
  for (const metric of await p99On(undefined, quick))
    metrics.push({ ...metric, name: `${metric.name}, file system of this machine`, aside: true });
  return metrics;
}

/** In folders of a directory, or of this node. */
async function p99On(directory: string | undefined, quick: boolean): Promise<Metric[]> {
  const ms = quick ? 2_000 : 6_000;
  const root = (name: string) => directory && join(directory, name);
  const thaw = await ThawDaemon.start({ log_level: 'info' }, { root: root('thaw') });
  const stargz = await StargzDaemon.start(root(STARGZ));
  const loads = { thaw: [] as Load[], stargz: [] as Load[] };
  const disk: number[] = [];
  try {
    await takeTurns(['thaw', STARGZ, 'disk'] as const, quick ? { runs: 2 } : { runs: 5 }, async (side) => {
      switch (side) {
        case 'thaw':
          loads.thaw.push(await cycle({ socket: thaw.socket }, MANY_CLIENTS, ms));
          break;
        case 'stargz':
          loads.stargz.push(await cycle({ socket: stargz.socket }, MANY_CLIENTS, ms));
          break;
        case 'disk':
          disk.push(quantile(flushes(ms / 4, directory), 0.99));
      }
    });
  } finally {
    await stargz.halt();
    await thaw.stop();
  }
  // Those of the warm-up.
  for (const samples of [loads.thaw, loads.stargz, disk]) samples.shift();
  const unit = 'ms';
  const bound = loads.thaw.map(() => BOUND_MS);
  const name = `p99_c${MANY_CLIENTS}`;
  const p99Of = ({ latencies }: Load, call: Call) => quantile(latencies[call], 0.99);
  /** Without a call, of the one that takes longest. */
  const p99 = (of: readonly Load[], call?: Call) =>
    of.map((load) => Math.max(...(call ? [call] : CALLS).map((each) => p99Of(load, each))));
  const rates = ofEach(loads, ({ cycles, seconds }) => cycles / seconds);
  return [
    { name, unit, ours: p99(loads.thaw), peer: bound, peerName: 'the bound' },
    { name, unit, ours: p99(loads.thaw), peer: p99(loads.stargz), peerName: STARGZ, aside: true },
    ...CALLS.flatMap((call): Metric[] => {
      const ours = p99(loads.thaw, call);
      const flushCount = FLUSHES[call];
      const metric = { name: `${name} ${call}`, unit, ours, aside: true };
      const alone = disk.map((flush) => flush * flushCount);
      const peerName = `p99 of ${flushCount} flushes of this disk, idle`;
      return [
        { ...metric, peer: p99(loads.stargz, call), peerName: STARGZ },
        ...(flushCount > 0 ? [{ ...metric, peer: alone, peerName }] : []),
      ];
    }),
    {
      name: `cycles_c${MANY_CLIENTS} of the daemons themselves`,
      unit: '1/s',
      ours: rates.thaw,
      peer: rates.stargz,
      peerName: STARGZ,
      aside: true,
    },
  ];
}

function ofEach<K extends string>(
  loads: Readonly<Record<K, readonly Load[]>>,
  value: (load: Load) => number,
): Record<K, number[]> {
  const entries = Object.entries<readonly Load[]>(loads).map(([side, all]) => [side, all.map(value)]);
  return Object.fromEntries(entries) as Record<K, number[]>;
}

function allOf({ latencies }: Load): number[] {
  return Object.values(latencies).flat();
}

async function measureMany(bed: Bed, count: number, turns: Turns): Promise<Metric[]> {
  const memory = (side: SnapshotterSide) => memoryOf([bed.pids[side]]).privateBytes / 2 ** 20;
  const idle = { thaw: memory('thaw'), stargz: memory(STARGZ) };
  for (const side of sides) await fill(bed.target(side), count);
  const lists = await takeTurns(sides, turns, async (side) => {
    const { ms, count: found } = await list(bed.target(side));
    if (found < count) throw new BenchError(Code.dataLoss, `${found} of ${count} snapshots were listed`);
    return ms;
  });
  const stats = await takeTurns(sides, turns, (side) => stat(bed.target(side), count, 500));
  const now = { thaw: [memory('thaw')], stargz: [memory(STARGZ)] };
  const before = `before there were ${count} snapshots`;
  const grown = { name: 'daemon_memory_grown', unit: 'MiB', aside: true };
  return [
    ...against(`list_${count}`, 'ms', lists, STARGZ),
    ...against(`stat_${count}`, 'ms', stats, STARGZ, { aside: true }),
    { name: 'daemon_memory', unit: 'MiB', ours: now.thaw, peer: now.stargz, peerName: STARGZ },
    { ...grown, ours: now.thaw, peer: [idle.thaw], peerName: before },
    {
      ...grown,
      name: 'daemon_memory_grown of stargz',
      ours: now.stargz,
      peer: [idle.stargz],
      peerName: before,
    },
  ];
}

async function measureUnpack(bed: Bed, turns: Turns): Promise<Metric[]> {
  const directory = privateDir('bench');
  const layers = [await minimalBase()];
  for (const folder of FOLDERS) layers.push(await packFolder(folder, directory));
  const image = await pushImage({
    host: bed.registry.host,
    repository: 'bench/debian',
    tag: 'layers',
    layers,
    command: ['true'],
  });
  const seconds = await takeTurns(sides, turns, (side) => bed.pull(side, image));
  return against('unpack', 's', seconds, OVERLAYFS);
}
