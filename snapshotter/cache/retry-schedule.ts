/** When a failed fetch is tried again. Pure. */
export interface Failed {
  /** Attempts in a row that brought nothing. */
  failures: number;
  /** How many of them somebody was waiting for. */
  wantedFailures: number;
  /** What the registry asked for (Retry-After). */
  retryAfterMs: number | undefined;
}

const FIRST_MS = 30_000;
const MAX_MS = 600_000;
const WANTED_FIRST_MS = 1_000;
const WANTED_MAX_MS = 15_000;

/** Milliseconds from the failure to the next attempt; `wanted`: somebody waits for chunks. */
export function retryDelay({ failures, wantedFailures, retryAfterMs = 0 }: Failed, wanted: boolean): number {
  const own = wanted
    ? doubling(WANTED_FIRST_MS, WANTED_MAX_MS, wantedFailures)
    : doubling(FIRST_MS, MAX_MS, failures);
  return Math.max(own, Math.min(retryAfterMs, MAX_MS));
}

function doubling(first: number, max: number, failures: number): number {
  return Math.min(max, first * 2 ** Math.min(Math.max(failures - 1, 0), 20));
}
