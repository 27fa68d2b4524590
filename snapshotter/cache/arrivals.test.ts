import { expect, test } from 'vitest';
import { fakeCheckpoint } from '../fake-checkpoint.test-helper.ts';
import { Arrivals } from './arrivals.ts';
import { planDemand, planRanges } from './plan.ts';

const chunks = Array.from({ length: 10 }, (_, i) => ({ at: i * 1000, bytes: Buffer.alloc(1000, i) }));
const { index } = fakeCheckpoint([[{ name: 'pages-1.img', size: 10_000, chunks }]]);
const [all] = planRanges(index);
const [one] = planDemand(index, [5]);
if (!all || !one) throw new Error('no ranges');

test('a chunk comes when the range that brings it has got there', () => {
  let now = 0;
  const arrivals = new Arrivals(index, () => now);
  expect(arrivals.millisecondsTo(5)).toBe(Number.POSITIVE_INFINITY);
  arrivals.begin(all);
  now = 100;
  expect(arrivals.millisecondsTo(5)).toBe(Number.POSITIVE_INFINITY);
  arrivals.received(all, 2000);
  expect([1, 5, 9].map((ordinal) => arrivals.millisecondsTo(ordinal))).toEqual([0, 200, 400]);
  // It stalls.
  now = 1000;
  expect(arrivals.millisecondsTo(5)).toBe(2000);
  arrivals.begin(one);
  now = 1010;
  arrivals.received(one, 500);
  expect(arrivals.millisecondsTo(5)).toBe(10);
  arrivals.end(one);
  arrivals.end(all);
  expect(arrivals.millisecondsTo(5)).toBe(Number.POSITIVE_INFINITY);
});
