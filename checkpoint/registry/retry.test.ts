import { describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { retryAfter } from './failure.ts';
import { defaultRetryPolicy, isTransient, retryDelay, withRetries } from './retry.ts';

const busy = (retryAfterMs?: number) =>
  new CheckpointError(Code.resourceExhausted, 'busy', { context: { status: 429, retryAfterMs } });
const down = new CheckpointError(Code.unavailable, 'down');

describe('retries', () => {
  test('wait longer each time, with jitter, up to a limit', () => {
    const policy = { ...defaultRetryPolicy, attempts: 20 };
    expect(retryDelay(policy, 1, down, () => 0)).toBe(100);
    expect(retryDelay(policy, 1, down, () => 1)).toBe(200);
    expect(retryDelay(policy, 3, down, () => 1)).toBe(800);
    expect(retryDelay(policy, 19, down, () => 1)).toBe(policy.maxMs);
  });

  test('obey Retry-After unless it is too long', () => {
    expect(retryDelay(defaultRetryPolicy, 1, busy(1500), () => 0)).toBe(1500);
    expect(retryDelay(defaultRetryPolicy, 1, busy(3_600_000), () => 0)).toBeUndefined();
  });

  test('end, and are not made for errors that stay', () => {
    expect(retryDelay(defaultRetryPolicy, defaultRetryPolicy.attempts, down, () => 0)).toBeUndefined();
    for (const code of [Code.notFound, Code.unauthenticated, Code.dataLoss, Code.invalidArgument])
      expect(isTransient(new CheckpointError(code, 'x'))).toBe(false);
    // The disk is full: no reason to ask the registry again.
    expect(isTransient(new CheckpointError(Code.resourceExhausted, 'disk'))).toBe(false);
    expect(isTransient(new Error('x'))).toBe(false);
  });

  test('stop at once when aborted', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    const aborted = () => new CheckpointError(Code.canceled, 'stopped');
    const policy = { ...defaultRetryPolicy, baseMs: 600_000, maxMs: 600_000 };
    await expect(
      withRetries(policy, controller.signal, aborted, () => Promise.reject(down)),
    ).rejects.toMatchObject({ code: Code.canceled });
  });
});

test('Retry-After is seconds or a date', () => {
  expect(retryAfter({ 'retry-after': '7' })).toBe(7000);
  expect(
    retryAfter({ 'retry-after': 'Wed, 21 Oct 2015 07:28:10 GMT' }, Date.UTC(2015, 9, 21, 7, 28, 0)),
  ).toBe(10_000);
  expect(retryAfter({ 'retry-after': 'soon' })).toBeUndefined();
  expect(retryAfter({})).toBeUndefined();
});
