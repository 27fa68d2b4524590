import { expect, test } from 'vitest';
import { median, pairedRatios, quantile, spread } from './statistics.ts';

test('the median of an odd and of an even number of samples', () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([4, 1, 3, 2])).toBe(2.5);
});

test('quartiles lie between samples', () => {
  expect(spread([1, 2, 3, 4])).toEqual({ median: 2.5, low: 1.75, high: 3.25 });
  expect(spread([7])).toEqual({ median: 7, low: 7, high: 7 });
});

test('samples are sorted as numbers and left as they are', () => {
  const samples = [10, 9, 100];
  expect(quantile(samples, 1)).toBe(100);
  expect(samples).toEqual([10, 9, 100]);
});

test('no samples have no median', () => {
  expect(() => median([])).toThrow('Nothing was measured');
});

test('pairs are compared one by one', () => {
  expect(pairedRatios([1, 6], [2, 3])).toEqual([0.5, 2]);
  expect(() => pairedRatios([1], [])).toThrow('cannot be paired');
});
