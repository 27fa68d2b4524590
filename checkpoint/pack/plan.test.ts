import { describe, expect, test } from 'vitest';
import { seeded } from '../random.test-helper.ts';
import { laneCount, planPack, SEGMENT_BYTES } from './plan.ts';

const CHUNK = 512 * 1024;

describe('planPack', () => {
  test('puts small images first and counts numbers as numbers', () => {
    const names = ['pages-10.img', 'pages-2.img', 'mm-1.img', 'core-10.img', 'core-9.img'];
    const plan = planPack(
      names.map((name) => ({ name, size: 1 })),
      CHUNK,
    );
    expect(plan.files.map((f) => f.name)).toEqual([
      'core-9.img',
      'core-10.img',
      'mm-1.img',
      'pages-2.img',
      'pages-10.img',
    ]);
  });

  test('covers every byte once, with pieces that begin at a chunk boundary', () => {
    const random = seeded(11);
    for (let round = 0; round < 50; round++) {
      const files = Array.from({ length: random.int(12) }, (_, i) => ({
        name: `f-${i}`,
        size: random.int(3) === 0 ? random.int(5000) : random.int(5 * SEGMENT_BYTES),
      }));
      const plan = planPack(files, CHUNK, 1 + random.int(5));
      const next = new Map<number, number>();
      const pieces = plan.lanes.flat().sort((a, b) => a.file - b.file || a.offset - b.offset);
      for (const piece of pieces) {
        expect(piece.offset).toBe(next.get(piece.file) ?? 0);
        expect(piece.offset % CHUNK).toBe(0);
        expect(piece.length).toBeGreaterThan(0);
        next.set(piece.file, piece.offset + piece.length);
      }
      for (const [i, file] of plan.files.entries()) expect(next.get(i) ?? 0).toBe(file.size);
    }
  });

  test('deals segments out evenly', () => {
    const plan = planPack([{ name: 'pages-1.img', size: 64 * SEGMENT_BYTES }], CHUNK);
    expect(plan.lanes).toHaveLength(laneCount(64 * SEGMENT_BYTES));
    const loads = plan.lanes.map((lane) => lane.reduce((sum, piece) => sum + piece.length, 0));
    expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(SEGMENT_BYTES);
  });
});

test('a small dump makes one data layer, a large one eight', () => {
  expect(laneCount(0)).toBe(1);
  expect(laneCount(2 ** 40)).toBe(8);
});
