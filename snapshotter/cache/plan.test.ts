import { expect, test } from 'vitest';
import { DATA_START } from '../../checkpoint/layer-layout.ts';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { fakeCheckpoint } from '../fake-checkpoint.test-helper.ts';
import { chunkAt } from './chunk-lookup.ts';
import { planDemand, planRanges, restOfRange } from './plan.ts';

const KIB = 1024;
const chunks = (count: number, bytes: number) =>
  Array.from({ length: count }, (_, i) => ({ at: i * bytes, bytes: Buffer.alloc(bytes, i + 1) }));
const file = (name: string, count: number, bytes: number) => ({
  name,
  size: count * bytes,
  chunks: chunks(count, bytes),
});

test('neighbours are one range, cut where it would grow too long', () => {
  const { index } = fakeCheckpoint([[file('pages-1.img', 5, 4 * KIB)]]);
  const plan = planRanges(index, () => true, { maxBytes: 8 * KIB, maxGap: 0 });
  expect(plan.map(({ offset, length, ordinals }) => [offset - DATA_START, length, [...ordinals]])).toEqual([
    [0, 8 * KIB, [0, 1]],
    [8 * KIB, 8 * KIB, [2, 3]],
    [16 * KIB, 4 * KIB, [4]],
  ]);
});

test('ranges come in the order of the first use of what they hold', () => {
  const { index } = fakeCheckpoint([[file('a', 6, KIB)]], { accessOrder: [5, 3] });
  const plan = planRanges(index, () => true, { maxBytes: 2 * KIB, maxGap: 0 });
  expect(plan.map(({ ordinals }) => [...ordinals])).toEqual([
    [4, 5],
    [2, 3],
    [0, 1],
  ]);
});

test('what is not wanted is left out, small gaps are read along', () => {
  const { index } = fakeCheckpoint([[file('a', 6, KIB)]]);
  const wanted = (ordinal: number) => ordinal !== 1 && ordinal !== 3 && ordinal !== 4;
  const plan = planRanges(index, wanted, { maxBytes: 64 * KIB, maxGap: KIB });
  expect(plan.map(({ length, ordinals }) => [length, [...ordinals]])).toEqual([
    [3 * KIB, [0, 2]],
    [KIB, [5]],
  ]);
});

test('each data layer has ranges of its own', () => {
  const { index } = fakeCheckpoint([[file('a', 2, KIB)], [file('b', 2, KIB)]]);
  expect(planRanges(index).map(({ layer, ordinals }) => [layer, [...ordinals]])).toEqual([
    [0, [0, 1]],
    [1, [2, 3]],
  ]);
});

test('a checkpoint without chunks needs nothing', () => {
  const { index } = fakeCheckpoint([[{ name: 'empty', size: 4096, chunks: [] }]]);
  expect(planRanges(index)).toEqual([]);
});

test('what somebody waits for comes in that order, neighbours at once, and nothing else', () => {
  const { index } = fakeCheckpoint([[file('a', 6, KIB)], [file('b', 3, KIB)]]);
  const plan = planDemand(index, [8, 3, 1, 2, 8, 5], { maxBytes: 2 * KIB, maxGap: 0 });
  expect(plan.map(({ layer, length, ordinals }) => [layer, length, [...ordinals]])).toEqual([
    [1, KIB, [8]],
    [0, KIB, [3]],
    [0, 2 * KIB, [1, 2]],
    [0, KIB, [5]],
  ]);
});

test('of a range is left what is not skipped', () => {
  const { index } = fakeCheckpoint([[file('a', 8, KIB)]]);
  const [range] = planRanges(index);
  if (!range) throw new Error('no range');
  const left = (skipped: number[], maxGap: number) =>
    restOfRange(index, range, (ordinal) => skipped.includes(ordinal), { maxGap }).map(
      ({ offset, length, ordinals }) => [(offset - DATA_START) / KIB, length / KIB, [...ordinals]],
    );
  expect(left([], 0)).toEqual([[0, 8, [0, 1, 2, 3, 4, 5, 6, 7]]]);
  expect(left([0, 3, 7], 0)).toEqual([
    [1, 2, [1, 2]],
    [4, 3, [4, 5, 6]],
  ]);
  expect(left([0, 3, 7], KIB)).toEqual([[1, 6, [1, 2, 4, 5, 6]]]);
  expect(left([0, 1, 2, 3, 4, 5, 6, 7], 0)).toEqual([]);
});

test('every wanted chunk is in one range, inside of its bounds', () => {
  const random = seeded(7);
  for (let round = 0; round < 50; round++) {
    const layers = Array.from({ length: 1 + random.int(3) }, (_, layer) =>
      Array.from({ length: random.int(4) }, (_, i) => {
        let at = 0;
        const parts = Array.from({ length: random.int(9) }, () => {
          const bytes = random.bytes(1 + random.int(3000));
          const part = { at, bytes };
          at += bytes.length;
          return part;
        });
        return { name: `f${layer}-${i}`, size: at, chunks: parts };
      }),
    );
    const { index } = fakeCheckpoint(layers);
    const wanted = new Set(
      Array.from({ length: index.chunkCount }, (_, i) => i).filter(() => random.int(3) > 0),
    );
    const planned = planRanges(index, (ordinal) => wanted.has(ordinal), { maxBytes: 5000, maxGap: 100 });
    const seen: number[] = [];
    for (const { layer, offset, length, ordinals } of planned) {
      expect(length).toBeLessThanOrEqual(5000);
      for (const ordinal of ordinals) {
        const { chunk } = chunkAt(index, ordinal);
        expect(chunk.layer).toBe(layer);
        expect(Number(chunk.layerOffset)).toBeGreaterThanOrEqual(offset);
        expect(Number(chunk.layerOffset) + chunk.storedLength).toBeLessThanOrEqual(offset + length);
        seen.push(ordinal);
      }
    }
    expect(seen.sort((a, b) => a - b)).toEqual([...wanted]);
  }
});
