import { expect, test } from 'vitest';
import { trimZeroPages } from './zero-pages.ts';

test.each<[string, number, number[], [number, number] | undefined]>([
  ['nothing but zeros', 3 * 4096, [], undefined],
  ['an empty slot', 0, [], undefined],
  ['the first byte', 3 * 4096, [0], [0, 4096]],
  ['the last byte', 3 * 4096, [3 * 4096 - 1], [2 * 4096, 3 * 4096]],
  ['the middle', 5 * 4096, [4096 * 2 + 7], [4096 * 2, 4096 * 3]],
  ['a hole, which stays', 5 * 4096, [4096, 4 * 4096 - 1], [4096, 4096 * 4]],
  ['an odd end with data', 4096 + 10, [4096 + 9], [4096, 4106]],
  ['an odd end without data', 4096 + 10, [5], [0, 4096]],
  ['less than a page', 10, [9], [0, 10]],
])('trims to whole pages: %s', (_, length, set, expected) => {
  const slot = Buffer.alloc(length);
  for (const at of set) slot[at] = 1;
  expect(trimZeroPages(slot)).toEqual(expected);
});
