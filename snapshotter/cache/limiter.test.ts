import { expect, it } from 'vitest';
import { Limiter } from './limiter.ts';
import type { Rank } from './rank.ts';

it('does so many at a time, by rank and then in order, and gives no turn away to who is behind', async () => {
  const limiter = new Limiter(2);
  const done: string[] = [];
  const gates: (() => void)[] = [];
  const start = (name: string, rank: Rank, pieces: number) => {
    let left = pieces;
    return limiter.each(rank, async () => {
      if (left === 0) return false;
      done.push(`${name}${left--}`);
      await new Promise<void>((resolve) => gates.push(resolve));
      return true;
    });
  };
  const all = [
    start('rest', 'background', 2),
    start('a', 'stream', 3),
    start('b', 'stream', 2),
    start('lead', 'lead', 2),
  ];
  await new Promise((resolve) => setImmediate(resolve));
  expect(done).toEqual(['rest2', 'a3']);
  for (let i = 0; i < 9; i++) {
    gates.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(all);
  expect(done).toEqual(['rest2', 'a3', 'lead2', 'b2', 'lead1', 'a2', 'b1', 'a1', 'rest1']);
});
