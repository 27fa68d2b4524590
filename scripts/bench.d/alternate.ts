/** Taking turns: what changes on the machine while a bench runs must reach all sides alike. */

export type Side = 'ours' | 'peer';

export interface Sides<T> {
  ours: T;
  peer: T;
}

export interface Turns {
  /** Runs of each side that count. */
  runs: number;
  /** On a slow machine it ends after this many milliseconds, but not before `atLeast` runs of each side. */
  budgetMs?: number;
  atLeast?: number;
  /** Default true: one run of each side first, whose result does not count. */
  warmUp?: boolean;
}

/** Two sides in turn; see `takeTurns`. */
export function alternate<T>(
  turns: Turns,
  measure: (side: Side) => Promise<T>,
  now: () => number = () => performance.now(),
): Promise<Sides<T[]>> {
  return takeTurns(['ours', 'peer'], turns, measure, now);
}

/**
 * Calls `measure` for every side in turn, after a warm-up: the first call pays for caches that are cold. Who goes first
 * changes with every round, so that no side is always first or last.
 */
export async function takeTurns<K extends string, T>(
  sides: readonly K[],
  turns: Turns,
  measure: (side: K) => Promise<T>,
  now: () => number = () => performance.now(),
): Promise<Record<K, T[]>> {
  const samples = Object.fromEntries(sides.map((side) => [side, [] as T[]])) as Record<K, T[]>;
  const { runs, budgetMs = Number.POSITIVE_INFINITY, atLeast = runs, warmUp = true } = turns;
  const began = now();
  if (warmUp) for (const side of order(sides, 1)) await measure(side);
  for (let run = 0; run < runs; run++) {
    if (run >= atLeast && now() - began > budgetMs) break;
    for (const side of order(sides, run)) samples[side].push(await measure(side));
  }
  return samples;
}

function order<K>(sides: readonly K[], round: number): K[] {
  const first = round % sides.length;
  return [...sides.slice(first), ...sides.slice(0, first)];
}
