import { expect, it } from 'vitest';
import type { OciMount } from '../task/oci-spec.ts';
import { hostPlace } from './place.ts';

const FILE = '/run/thaw/restore.json';
const bind = (destination: string, options = ['rbind', 'rw']): OciMount => ({
  destination,
  type: 'bind',
  source: `/volumes${destination}`,
  options,
});

it.each<[string, OciMount[], object | undefined]>([
  [
    'the root file system',
    [bind('/etc/hosts'), bind('/runs'), bind('/run/thaws')],
    { root: '/b/rootfs', path: FILE.slice(1) },
  ],
  ['a volume over a parent', [bind('/run/')], { root: '/volumes/run/', path: 'thaw/restore.json' }],
  [
    'the innermost of two volumes',
    [bind('/run/thaw'), bind('/run')],
    { root: '/volumes/run/thaw', path: 'restore.json' },
  ],
  ['a volume over everything', [bind('/')], { root: '/volumes/', path: FILE.slice(1) }],
  [
    'nowhere below a tmpfs',
    [{ destination: '/run', type: 'tmpfs', source: 'tmpfs', options: [] }],
    undefined,
  ],
  ['nowhere in what the pod mounts read-only', [bind('/run', ['rbind', 'ro'])], undefined],
  ['nowhere where the file is a mount', [bind(FILE)], undefined],
])('a path lies in %s', (_, mounts, place) => {
  expect(hostPlace({ mounts }, '/b', FILE)).toEqual(place);
});

it('a path lies in the root file system that the spec names', () => {
  expect(hostPlace({ root: { path: 'other' } }, '/b', FILE)?.root).toBe('/b/other');
  expect(hostPlace({ root: { path: '/images/root' } }, '/b', FILE)?.root).toBe('/images/root');
});
