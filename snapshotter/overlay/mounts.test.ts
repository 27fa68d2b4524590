import { expect, test } from 'vitest';
import { mountsOf } from './mounts.ts';

const none = { all: [], writable: [] };
const some = { all: ['index=off'], writable: ['volatile'] };

test('without a parent the own directory is bound, read-only for a view', () => {
  expect(mountsOf('/s', { kind: 'active', directory: 7, parents: [] }, some)).toEqual([
    { type: 'bind', source: '/s/7/fs', options: ['rw', 'rbind'] },
  ]);
  expect(mountsOf('/s', { kind: 'view', directory: 7, parents: [] }, some)).toEqual([
    { type: 'bind', source: '/s/7/fs', options: ['ro', 'rbind'] },
  ]);
});

test('a view of one layer binds that layer read-only', () => {
  expect(mountsOf('/s', { kind: 'view', directory: 7, parents: [3] }, some)).toEqual([
    { type: 'bind', source: '/s/3/fs', options: ['ro', 'rbind'] },
  ]);
});

test('an active snapshot has upper and work directory, a view of several layers has none', () => {
  expect(mountsOf('/s', { kind: 'active', directory: 7, parents: [3] }, none)).toEqual([
    {
      type: 'overlay',
      source: 'overlay',
      options: ['workdir=/s/7/work', 'upperdir=/s/7/fs', 'lowerdir=/s/3/fs'],
    },
  ]);
  expect(mountsOf('/s', { kind: 'view', directory: 7, parents: [5, 3] }, some)).toEqual([
    { type: 'overlay', source: 'overlay', options: ['index=off', 'lowerdir=/s/5/fs:/s/3/fs'] },
  ]);
  const [writable] = mountsOf('/s', { kind: 'active', directory: 7, parents: [3] }, some);
  expect(writable?.options.slice(0, 2)).toEqual(['index=off', 'volatile']);
});
