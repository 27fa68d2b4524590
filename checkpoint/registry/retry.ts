import { setTimeout as sleep } from 'node:timers/promises';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';

export interface RetryPolicy {
  /** Tries in all. */
  attempts: number;
  /** First wait; doubles with each try. */
  baseMs: number;
  maxMs: number;
  /** Longest Retry-After that is obeyed; a longer one fails at once. */
  maxRetryAfterMs: number;
}

export const defaultRetryPolicy: RetryPolicy = {
  attempts: 5,
  baseMs: 200,
  maxMs: 10_000,
  maxRetryAfterMs: 60_000,
};

/** Whether the same request may succeed when sent again. */
export function isTransient(error: unknown): boolean {
  if (!(error instanceof CheckpointError)) return false;
  if (error.code === Code.resourceExhausted) return error.context['status'] === 429;
  return error.code === Code.unavailable || error.code === Code.deadlineExceeded;
}

/**
 * How long to wait before try number `attempt` (from 1) after `error`; undefined to give up. Full jitter above half,
 * so that many nodes do not come back in step.
 */
export function retryDelay(
  policy: RetryPolicy,
  attempt: number,
  error: unknown,
  random: () => number,
): number | undefined {
  if (attempt >= policy.attempts || !isTransient(error)) return undefined;
  const asked = error instanceof CheckpointError ? error.context['retryAfterMs'] : undefined;
  if (typeof asked === 'number') return asked <= policy.maxRetryAfterMs ? asked : undefined;
  const full = Math.min(policy.maxMs, policy.baseMs * 2 ** (attempt - 1));
  return full / 2 + (random() * full) / 2;
}

/** Runs `work` until it succeeds, fails for good, or the signal is aborted (then `aborted` makes the error). */
export async function withRetries<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  aborted: (signal: AbortSignal) => Error,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    if (signal?.aborted) throw aborted(signal);
    try {
      return await work();
    } catch (error) {
      if (signal?.aborted) throw aborted(signal);
      const delay = retryDelay(policy, attempt, error, Math.random);
      if (delay === undefined) throw error;
      await pause(delay, signal, aborted);
    }
  }
}

/** Waits; throws what `aborted` makes if the signal is aborted meanwhile. */
export async function pause(
  ms: number,
  signal: AbortSignal | undefined,
  aborted: (signal: AbortSignal) => Error,
): Promise<void> {
  try {
    await sleep(ms, undefined, signal ? { signal } : {});
  } catch (error) {
    if (signal?.aborted) throw aborted(signal);
    throw error;
  }
}
