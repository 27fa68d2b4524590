import { Code, describeError } from '../../proto/status.ts';
import { TestError } from './error.ts';

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Calls `probe` until it returns something other than undefined or false, and returns that. A throw counts as "not
 * yet"; the last one is the cause of the error thrown when `ms` have passed.
 */
export async function until<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  ms = 10_000,
  longestPauseMs = 100,
): Promise<T> {
  const deadline = Date.now() + ms;
  for (let pause = 5; ; pause = Math.min(pause * 2, longestPauseMs)) {
    let failure: unknown;
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (caught) {
      failure = caught;
    }
    if (Date.now() > deadline) {
      const why = failure === undefined ? '' : `: ${describeError(failure).message}`;
      throw new TestError(Code.deadlineExceeded, `Waited ${ms} ms for ${what}${why}`, { cause: failure });
    }
    await sleep(pause);
  }
}
