import { expect, test } from 'vitest';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { fakeCheckpoint } from '../fake-checkpoint.test-helper.ts';
import type { PlannedRange } from './plan.ts';
import { TransferQueue } from './transfer-queue.ts';

const MIB = 1 << 20;
const CHUNKS = 40;
const { index } = fakeCheckpoint([
  [
    {
      name: 'pages-1.img',
      size: CHUNKS * MIB,
      chunks: Array.from({ length: CHUNKS }, (_, i) => ({ at: i * MIB, bytes: Buffer.alloc(MIB, i) })),
    },
  ],
]);
const listed = (range: PlannedRange | undefined) => range && [...range.ordinals];

test('the stream leaves out what was wanted, until that has failed', () => {
  const queue = new TransferQueue(index, () => true);
  queue.want([3]);
  const wanted = queue.takeDemand();
  expect(listed(wanted)).toEqual([3]);
  expect(listed(queue.takeStream())).toEqual([0, 1, 2]);
  expect(listed(queue.takeStream())).toEqual([4, 5, 6, 7]);
  expect(queue.takeDemand()).toBeUndefined();
  expect(queue.hasDemand).toBe(false);
});

test('what is under way is not taken again, unless asked for', () => {
  const queue = new TransferQueue(index, () => true);
  const stream = queue.takeStream();
  expect(listed(stream)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  queue.want([5, 9]);
  expect(listed(queue.takeDemand())).toEqual([9]);
  expect(queue.takeDemand()).toBeUndefined();
  queue.want([5], { again: true });
  const again = queue.takeDemand();
  expect(listed(again)).toEqual([5]);
  if (stream) queue.release(stream);
  expect([queue.isUnderWay(4), queue.isUnderWay(5)]).toEqual([false, true]);
  if (again) queue.release(again);
  expect(queue.isUnderWay(5)).toBe(false);
});

test('a single chunk does not wait for a thousand', () => {
  const queue = new TransferQueue(index, () => true);
  queue.want(Array.from({ length: 30 }, (_, i) => i));
  queue.want([35]);
  expect(listed(queue.takeDemand())).toEqual([0, 1]);
  expect(listed(queue.takeDemand())).toEqual([35]);
  expect(listed(queue.takeDemand())).toEqual([2, 3]);
});

test('whatever is asked for in between, every chunk is taken exactly once', () => {
  const random = seeded(5);
  for (let round = 0; round < 50; round++) {
    const here = new Set<number>();
    const underWay: PlannedRange[] = [];
    const queue = new TransferQueue(index, (ordinal) => !here.has(ordinal));
    let taken = 0;
    for (;;) {
      if (random.int(3) === 0)
        queue.want(Array.from({ length: 1 + random.int(6) }, () => random.int(CHUNKS)));
      const range = queue.takeDemand() ?? queue.takeStream();
      if (range) {
        underWay.push(range);
        taken += range.ordinals.length;
        expect(range.length).toBe(range.ordinals.length * MIB);
      } else if (underWay.length === 0) break;
      if (!range || random.int(2) === 0) {
        const [done] = underWay.splice(random.int(underWay.length), 1);
        if (!done) continue;
        for (const ordinal of done.ordinals) here.add(ordinal);
        queue.release(done);
      }
    }
    expect([taken, here.size]).toEqual([CHUNKS, CHUNKS]);
  }
});

test('what the order names comes alone and first, where the rest is in the background', () => {
  const ordered = { ...index, accessOrder: [30, 5, 6] };
  const alone = new TransferQueue(ordered, () => true, { leadAlone: true });
  expect(listed(alone.takeLead())).toEqual([30]);
  expect(listed(alone.takeStream())).toEqual([5, 6]);
  expect(alone.takeLead()).toBeUndefined();
  expect(listed(alone.takeStream())).toEqual([0, 1, 2, 3, 4]);
  const along = new TransferQueue(ordered, () => true);
  expect(along.takeLead()).toBeUndefined();
  expect(listed(along.takeStream())).toEqual([24, 25, 26, 27, 28, 29, 30, 31]);
});
