import { expect, it } from 'vitest';
import { matchContainers } from './find.ts';

const all = ['abc', 'abcdef', 'xyz'].map((id) => ({ id }));

it('prefers an exact id to ids that begin with it', () => {
  expect(matchContainers(all, 'abc')).toEqual([{ id: 'abc' }]);
});
it('finds all that begin with the name', () => {
  expect(matchContainers(all, 'ab').map(({ id }) => id)).toEqual(['abc', 'abcdef']);
  expect(matchContainers(all, 'bc')).toEqual([]);
});
