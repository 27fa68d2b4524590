import { expect, it } from 'vitest';
import { wholeMemfds } from './mappings.ts';

const LENGTH = 0x1000000n;
const line = (change: { range?: string; rights?: string; offset?: string; path?: string } = {}) => {
  const { range, rights, offset, path } = {
    range: '7f0000000000-7f0001000000',
    rights: 'rw-s',
    offset: '00000000',
    path: '/memfd:weights (deleted)',
    ...change,
  };
  return `${range} ${rights} ${offset} 00:01 1026                       ${path}`;
};

it('finds a whole memfd that is mapped to be filled, also one without a name', () => {
  expect(wholeMemfds(`${line()}\n`, LENGTH)).toEqual([0x7f0000000000n]);
  expect(wholeMemfds(line({ path: '/memfd: (deleted)' }), LENGTH)).toEqual([0x7f0000000000n]);
  const two = [line(), line({ range: '7f1000000000-7f1001000000', path: '/memfd:a b (deleted)' })].join('\n');
  expect(wholeMemfds(two, LENGTH)).toHaveLength(2);
});

it.each([
  ['of another length', { range: '7f0000000000-7f0001001000' }],
  ['that is private', { rights: 'rw-p' }],
  ['that cannot be written', { rights: 'r--s' }],
  ['of a part', { offset: '00001000' }],
  ['of a file', { path: '/dev/shm/memfd:x' }],
  ['of CRIU itself', { path: '/dev/zero (deleted)' }],
])('finds no mapping %s', (_, change) => {
  expect(wholeMemfds(line(change), LENGTH)).toEqual([]);
});
