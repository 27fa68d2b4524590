import { expect, it } from 'vitest';
import { allBits, bitsOf, clearBits } from './bits.ts';

it('lists what is not set, from the lowest on', () => {
  expect(clearBits(bitsOf([0, 2, 9], 11), 11, 99)).toEqual([1, 3, 4, 5, 6, 7, 8, 10]);
  expect(clearBits(bitsOf([0, 2, 9], 11), 11, 3)).toEqual([1, 3, 4]);
  expect(clearBits(allBits(11), 11, 3)).toEqual([]);
  expect(clearBits(new Uint8Array(0), 2, 3)).toEqual([0, 1]);
});
