import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { inParallel } from './parallel.ts';

const never = new AbortController().signal;

it('works on every item, a few at a time', async () => {
  let [running, most] = [0, 0];
  const done: number[] = [];
  await inParallel([1, 2, 3, 4, 5, 6, 7], 3, never, async (item) => {
    most = Math.max(most, ++running);
    await sleep(2);
    running--;
    done.push(item);
  });
  expect(done.sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(most).toBe(3);
});

it('stops the others at the first failure, and throws that one', async () => {
  const started: number[] = [];
  const work = inParallel([1, 2, 3, 4, 5], 2, never, async (item, signal) => {
    started.push(item);
    if (item === 2) throw new Error('second');
    await sleep(10_000, undefined, { signal });
  });
  await expect(work).rejects.toThrow('second');
  expect(started).toEqual([1, 2]);
});

it('ends as canceled when the user interrupts', async () => {
  const user = new AbortController();
  const work = inParallel([1, 2, 3], 1, user.signal, async () => user.abort());
  await expect(work).rejects.toThrow('Interrupted');
});
