/** `scripts/bench snapshotter`: thaw's snapshotter and containerd's own overlayfs, both behind one containerd. */
import { Code } from '../../../proto/status.ts';
import { SnapshotsClient } from '../../../test/conformance/snapshots-client.ts';
import { ThawDaemon } from '../../../test/conformance/thaw-daemon.ts';
import { privateDir } from '../../../test/lib/index.ts';
import { alternate, type Side, type Turns } from '../alternate.ts';
import { minimalBase, packFolder, pushImage } from '../coldnode/images.ts';
import { BenchError } from '../error.ts';
import { choose } from '../groups.ts';
import type { Metric, Report } from '../report.ts';
import { memoryOf } from '../shim/proc.ts';
import { quantile } from '../statistics.ts';
import { stopwatch } from '../stopwatch.ts';
import { versions } from '../versions.ts';
import { Bed } from './bed.ts';
import { flushes } from './flush.ts';
import { CALLS, type Call, cycle, fill, type Load, list, stat } from './load.ts';

export interface SnapshotterBenchOptions {
  quick: boolean;
  /** Names of groups; all when absent. */
  only: readonly string[] | undefined;
}

const groups = [{ name: 'cycles' }, { name: 'p99' }, { name: 'many' }, { name: 'unpack' }] as const;
const PEER = 'overlayfs';
const MANY_CLIENTS = 64;
/** What a call of many may take at the most, unless the disk is slower. */
const BOUND_MS = 50;
/**
 * Flushes that a call may wait for one after the other: of the folder and of the log, and before each the one under way.
 * Mounts waits for none.
 */
const FLUSHES: Readonly<Record<Call, number>> = { prepare: 4, mounts: 0, commit: 2, remove: 2 };
/** Folders of the node's Debian, a layer each. */
const FOLDERS = ['/usr/bin', '/usr/sbin', '/usr/libexec', '/usr/lib', '/usr/share'];

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
      metrics.push(await measureUnpack(bed, quick ? { runs: 1, warmUp: false } : { runs: 5 }));
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
    "stargz is left out: Debian's stargz-snapshotter package has only ctr-remote, and no snapshotter",
    'overlayfs runs inside containerd, thaw behind one more connection',
    await versions(),
  ];
  return { bench: 'snapshotter', metrics, notes };
}

async function measureCycles(bed: Bed, quick: boolean): Promise<Metric[]> {
  const turns = quick ? { runs: 2 } : { runs: 7 };
  const ms = quick ? 1_000 : 4_000;
  const metrics: Metric[] = [];
  for (const count of [1, 16, MANY_CLIENTS]) {
    const loads = await alternate(turns, (side) => loadOf(bed, side, count, ms));
    const rates = (side: Side) => loads[side].map(({ cycles, seconds }) => cycles / seconds);
    const rate = { name: `cycles_c${count}`, unit: '1/s', ours: rates('ours'), peer: rates('peer') };
    const many = count === MANY_CLIENTS;
    metrics.push({ ...rate, peerName: PEER, ...(many ? { aside: true } : {}) });
    if (!many) continue;
    const p99 = (side: Side) => loads[side].map((load) => quantile(allOf(load), 0.99));
    const name = `p99_c${count} through containerd`;
    metrics.push({ name, unit: 'ms', ours: p99('ours'), peer: p99('peer'), peerName: PEER, aside: true });
  }
  return metrics;
}

/**
 * Of the daemon itself: containerd has a database of its own in the way, which writes twice for each call and lets one write
 * at a time.
 */
async function measureP99(quick: boolean): Promise<Metric[]> {
  const ms = quick ? 2_000 : 6_000;
  const thaw = await ThawDaemon.start({ log_level: 'info' });
  const clients = Array.from({ length: MANY_CLIENTS }, () => new SnapshotsClient(thaw.socket));
  const loads: Load[] = [];
  const disk: number[] = [];
  try {
    await alternate(quick ? { runs: 2 } : { runs: 7 }, async (side) => {
      if (side === 'ours') loads.push(await cycle(clients, ms));
      else disk.push(quantile(flushes(ms / 4), 0.99));
    });
  } finally {
    for (const client of clients) client.close();
    await thaw.stop();
  }
  // Those of the warm-up.
  loads.shift();
  disk.shift();
  const unit = 'ms';
  const bound = loads.map(() => BOUND_MS);
  const name = `p99_c${MANY_CLIENTS}`;
  const all = loads.map((load) => quantile(allOf(load), 0.99));
  return [
    { name, unit, ours: all, peer: bound, peerName: 'the bound' },
    ...CALLS.map((call): Metric => {
      const ours = loads.map(({ latencies }) => quantile(latencies[call], 0.99));
      const flushCount = FLUSHES[call];
      const peer = flushCount === 0 ? bound : disk.map((flush) => flush * flushCount);
      const peerName =
        flushCount === 0 ? 'the bound; no flush' : `p99 of ${flushCount} flushes of this disk, idle`;
      return { name: `${name} ${call}`, unit, ours, peer, peerName, aside: true };
    }),
  ];
}

function allOf({ latencies }: Load): number[] {
  return Object.values(latencies).flat();
}

async function loadOf(bed: Bed, side: Side, count: number, ms: number): Promise<Load> {
  const clients = bed.clients(side, count);
  try {
    return await cycle(clients, ms);
  } finally {
    for (const client of clients) client.close();
  }
}

async function measureMany(bed: Bed, count: number, turns: Turns): Promise<Metric[]> {
  const clients = { ours: bed.clients('ours', 16), peer: bed.clients('peer', 16) };
  try {
    const idle = memoryOf([bed.snapshotter.pid]).privateBytes;
    for (const side of ['ours', 'peer'] as const) await fill(clients[side], count);
    const first = (side: Side) => {
      const [client] = clients[side];
      if (!client) throw new BenchError(Code.internal, 'There is no client');
      return client;
    };
    const lists = await alternate(turns, async (side) => {
      const { ms, count: found } = await list(first(side));
      if (found < count) throw new BenchError(Code.dataLoss, `${found} of ${count} snapshots were listed`);
      return ms;
    });
    const stats = await alternate(turns, (side) => stat(first(side), count, 500));
    const memory = (pid: number) => [memoryOf([pid]).privateBytes / 2 ** 20];
    return [
      { name: `list_${count}`, unit: 'ms', ours: lists.ours, peer: lists.peer, peerName: PEER },
      { name: `stat_${count}`, unit: 'ms', ours: stats.ours, peer: stats.peer, peerName: PEER, aside: true },
      {
        name: 'daemon_memory',
        unit: 'MiB',
        ours: memory(bed.snapshotter.pid),
        peer: memory(bed.containerd.pid),
        peerName: 'containerd, which overlayfs is part of',
      },
      {
        name: 'daemon_memory_grown',
        unit: 'MiB',
        ours: memory(bed.snapshotter.pid),
        peer: [idle / 2 ** 20],
        peerName: `before there were ${count} snapshots`,
        aside: true,
      },
    ];
  } finally {
    for (const client of [...clients.ours, ...clients.peer]) client.close();
  }
}

async function measureUnpack(bed: Bed, turns: Turns): Promise<Metric> {
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
  const seconds = await alternate(turns, (side) => bed.pull(side, image));
  return { name: 'unpack', unit: 's', ours: seconds.ours, peer: seconds.peer, peerName: PEER };
}
