import { expect, test } from 'vitest';
import { untested } from './versions.ts';

const known = { kernel: ['6.18'], runc: ['1.3.6'] };

test('names what was not tested, with what was', () => {
  expect(untested({ kernel: '6.18.5-amd64', runc: '1.4.0', criu: '4.2' }, known)).toEqual([
    'runc 1.4.0 (tested: 1.3.6)',
    'criu 4.2 (tested: none)',
  ]);
});

test('a package that is not used is no warning', () => {
  expect(untested({ 'python3-torch': 'none', kernel: '6.18.0' }, known)).toEqual([]);
});
