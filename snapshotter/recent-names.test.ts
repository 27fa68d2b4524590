import { expect, test } from 'vitest';
import { RecentNames } from './recent-names.ts';

test('a name has the last change that touched it, until that is flushed', () => {
  const recent = new RecentNames();
  recent.touched(['a', 'b'], 1, 0);
  recent.touched(['c'], 2, 0);
  recent.touched(['a'], 3, 0);
  expect(['a', 'b', 'c', 'd'].map((name) => recent.last(name))).toEqual([3, 1, 2, 0]);
  recent.touched(['d'], 4, 2);
  expect(['a', 'b', 'c', 'd'].map((name) => recent.last(name))).toEqual([3, 0, 0, 4]);
});
