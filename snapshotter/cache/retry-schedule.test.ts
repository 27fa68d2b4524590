import { expect, test } from 'vitest';
import { retryDelay } from './retry-schedule.ts';

const none = { failures: 0, wantedFailures: 0, retryAfterMs: undefined };

test('while nobody waits, from half a minute to ten', () => {
  const delays = [1, 2, 5, 6, 100].map((failures) => retryDelay({ ...none, failures }, false));
  expect(delays).toEqual([30_000, 60_000, 480_000, 600_000, 600_000]);
});

test('while somebody waits, from a second to a quarter of a minute', () => {
  const delays = [0, 1, 2, 3, 4, 5, 100].map((wantedFailures) =>
    retryDelay({ ...none, failures: 50, wantedFailures }, true),
  );
  expect(delays).toEqual([1_000, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
});

test('a registry that asks for more time gets it, within limits', () => {
  expect(retryDelay({ ...none, wantedFailures: 1, retryAfterMs: 90_000 }, true)).toBe(90_000);
  expect(retryDelay({ ...none, failures: 1, retryAfterMs: 1_000 }, false)).toBe(30_000);
  expect(retryDelay({ ...none, retryAfterMs: 10 ** 9 }, true)).toBe(600_000);
});
