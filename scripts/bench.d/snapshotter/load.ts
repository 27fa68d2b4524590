/** Calls of many clients at once: what containerd does for a container's root file system, and for a layer. */
import type { SnapshotsClient } from '../../../test/conformance/snapshots-client.ts';

/** Without it containerd collects what nothing refers to, also between two calls. */
const KEPT = { 'containerd.io/gc.root': 'bench' };

export const CALLS = ['prepare', 'mounts', 'commit', 'remove'] as const;
export type Call = (typeof CALLS)[number];

export interface Load {
  cycles: number;
  seconds: number;
  /** Milliseconds of each call. */
  latencies: Record<Call, number[]>;
}

/** Prepare, Mounts, Commit and Remove over and over, on every client at once, until the time is up. */
export async function cycle(clients: readonly SnapshotsClient[], ms: number): Promise<Load> {
  const latencies: Load['latencies'] = { prepare: [], mounts: [], commit: [], remove: [] };
  const timed = async <T>(name: Call, call: Promise<T>) => {
    const began = performance.now();
    await call;
    latencies[name].push(performance.now() - began);
  };
  const began = performance.now();
  let cycles = 0;
  await Promise.all(
    clients.map(async (client, n) => {
      for (let i = 0; performance.now() - began < ms; i++) {
        const key = `cycle-${n}-${i}`;
        await timed('prepare', client.prepare(key, '', KEPT));
        await timed('mounts', client.mounts(key));
        await timed('commit', client.commit(`${key}-done`, key, KEPT));
        await timed('remove', client.remove(`${key}-done`));
        cycles += 1;
      }
    }),
  );
  return { cycles, seconds: (performance.now() - began) / 1000, latencies };
}

/** Active snapshots on one committed one, made by all clients together. */
export async function fill(clients: readonly SnapshotsClient[], count: number): Promise<void> {
  const [first] = clients;
  await first?.prepare('base-active', '', KEPT);
  await first?.commit('base', 'base-active', KEPT);
  let next = 0;
  await Promise.all(
    clients.map(async (client) => {
      while (next < count) {
        const key = nameOf(next++);
        await client.prepare(key, 'base', KEPT);
      }
    }),
  );
}

/** Milliseconds of one list, of how many. */
export async function list(client: SnapshotsClient): Promise<{ ms: number; count: number }> {
  const began = performance.now();
  const batches = await client.walk(() => {});
  return { ms: performance.now() - began, count: batches.reduce((sum, batch) => sum + batch, 0) };
}

/** Milliseconds a Stat, over so many of them one after the other, spread over all snapshots. */
export async function stat(client: SnapshotsClient, count: number, calls: number): Promise<number> {
  const began = performance.now();
  for (let i = 0; i < calls; i++) await client.stat(nameOf(Math.floor((i * count) / calls)));
  return (performance.now() - began) / calls;
}

function nameOf(n: number): string {
  return `many-${n}`;
}
