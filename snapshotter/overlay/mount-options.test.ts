import { expect, test } from 'vitest';
import { overlayOptions, writableOptions } from './mount-options.ts';

const first = '         0          0 4294967295\n';
const inside = '         0     100000      65536\n';

test.each([
  [{ hasIndex: true, uidMap: first, release: '6.1.0-13-amd64' }, ['index=off']],
  [{ hasIndex: false, uidMap: first, release: '4.9.0' }, []],
  [{ hasIndex: true, uidMap: inside, release: '5.11.0' }, ['index=off', 'userxattr']],
  [{ hasIndex: true, uidMap: inside, release: '5.10.197-x' }, ['index=off']],
  [{ hasIndex: false, uidMap: inside, release: '6.18.44' }, ['userxattr']],
])('%j', (kernel, options) => {
  expect(overlayOptions(kernel)).toEqual(options);
});

test.each([
  [true, '5.10.0', ['volatile']],
  [true, '5.9.16', []],
  [false, '6.18.44', []],
])('volatile wanted: %j, on Linux %s', (volatile, release, options) => {
  expect(writableOptions({ volatile }, { release })).toEqual(options);
});
