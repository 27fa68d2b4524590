import { expect, test } from 'vitest';
import { inPool } from './pool.ts';

test('as many at a time as allowed, results in order', async () => {
  let running = 0;
  let most = 0;
  const results = await inPool([30, 1, 10, 1], 2, async (ms) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, ms));
    running--;
    return ms;
  });
  expect(results).toEqual([30, 1, 10, 1]);
  expect(most).toBe(2);
});

test('an error is passed on', async () => {
  await expect(inPool([1], 2, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
});
