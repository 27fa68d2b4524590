/** Runs the program that loads a snapshotter (`stargz/load/main.go`), and reads what it says. */
import { run } from '../../../test/lib/index.ts';
import { loadProgram } from '../stargz/index.ts';

/** Of all that the load makes. */
export const NAMESPACE = 'bench';

export const CALLS = ['prepare', 'mounts', 'commit', 'remove'] as const;
export type Call = (typeof CALLS)[number];

export interface Target {
  socket: string;
  /** Which of containerd's; absent where the socket is a snapshotter's own. */
  snapshotter?: string;
}

export interface Load {
  cycles: number;
  seconds: number;
  /** Milliseconds of each call. */
  latencies: Record<Call, number[]>;
}

let runs = 0;

/** Prepare, Mounts, Commit and Remove over and over, on every connection at once, until the time is up. */
export function cycle(target: Target, clients: number, ms: number): Promise<Load> {
  runs += 1;
  return load<Load>(target, 'cycle', { clients, ms, run: runs });
}

/** Active snapshots on one committed one. */
export async function fill(target: Target, count: number): Promise<void> {
  await load(target, 'fill', { clients: 16, count });
}

/** Milliseconds of one list, of how many. */
export function list(target: Target): Promise<{ ms: number; count: number }> {
  return load(target, 'list', {});
}

/** Milliseconds a Stat, over so many of them one after the other, spread over all that `fill` made. */
export async function stat(target: Target, count: number, calls: number): Promise<number> {
  return (await load<{ ms: number }>(target, 'stat', { count, calls })).ms;
}

async function load<T>(
  { socket, snapshotter = '' }: Target,
  mode: string,
  flags: Readonly<Record<string, number>>,
): Promise<T> {
  const options = Object.entries({ address: socket, snapshotter, ...flags }).flatMap(([name, value]) => [
    `-${name}`,
    String(value),
  ]);
  const { stdout } = await run(loadProgram, [...options, mode], { timeoutMs: 600_000 });
  return JSON.parse(stdout) as T;
}
