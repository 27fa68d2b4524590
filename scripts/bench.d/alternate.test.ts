import { expect, test } from 'vitest';
import { alternate, type Side, takeTurns } from './alternate.ts';

test('sides alternate, each goes first half of the time, the warm-up does not count', async () => {
  const calls: Side[] = [];
  const samples = await alternate({ runs: 2 }, async (side) => calls.push(side));
  expect(calls).toEqual(['peer', 'ours', 'ours', 'peer', 'peer', 'ours']);
  expect(samples).toEqual({ ours: [3, 6], peer: [4, 5] });
});

test('a slow machine ends it early, but not before it has enough', async () => {
  let clock = 0;
  const measure = async () => {
    clock += 10;
  };
  const slow = await alternate({ runs: 9, budgetMs: 5, atLeast: 3 }, measure, () => clock);
  expect(slow.ours).toHaveLength(3);
  clock = 0;
  const fast = await alternate({ runs: 9, budgetMs: 1000, atLeast: 3 }, measure, () => clock);
  expect(fast.peer).toHaveLength(9);
});

test('without a warm-up every call counts', async () => {
  const samples = await alternate({ runs: 1, warmUp: false }, async (side) => side);
  expect(samples).toEqual({ ours: ['ours'], peer: ['peer'] });
});

test('of three sides each is first, in the middle and last equally often', async () => {
  const calls: string[] = [];
  await takeTurns(['a', 'b', 'c'], { runs: 3, warmUp: false }, async (side) => calls.push(side));
  expect(calls.join('')).toBe('abcbcacab');
});
