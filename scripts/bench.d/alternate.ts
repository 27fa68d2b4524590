/** Taking turns: what changes on the machine while a bench runs must reach both sides alike. */

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

/**
 * Calls `measure` for both sides in turn, after a warm-up: the first call pays for caches that are cold. Who goes first
 * changes with every pair, so that no side always follows the other.
 */
export async function alternate<T>(
  turns: Turns,
  measure: (side: Side) => Promise<T>,
  now: () => number = () => performance.now(),
): Promise<Sides<T[]>> {
  const samples: Sides<T[]> = { ours: [], peer: [] };
  const { runs, budgetMs = Number.POSITIVE_INFINITY, atLeast = runs, warmUp = true } = turns;
  const began = now();
  if (warmUp) for (const side of order(1)) await measure(side);
  for (let run = 0; run < runs; run++) {
    if (run >= atLeast && now() - began > budgetMs) break;
    for (const side of order(run)) samples[side].push(await measure(side));
  }
  return samples;
}

function order(run: number): Side[] {
  return run % 2 === 0 ? ['ours', 'peer'] : ['peer', 'ours'];
}
