import { expect, it } from 'vitest';
import { resolveUser } from './user.ts';

const files = {
  passwd: 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/:/bin/false\nbroken:x:a:b\n',
  group: 'root:x:0:\nadm:x:4:root,web\nweb:x:1001:web\nmodels:x:2000:web\nbroken:x:a:web\n',
};

it.each([
  ['nobody says who: root, with its groups', undefined, undefined, [0, 0, [0, 4]]],
  ['the image names an account', undefined, 'web', [1000, 1001, [1001, 4, 2000]]],
  ['the image names a UID: its account counts', undefined, '1000', [1000, 1001, [1001, 4, 2000]]],
  [
    'the group of the image is left out, as a kubelet leaves it out',
    undefined,
    '1000:55',
    [1000, 1001, [1001, 4, 2000]],
  ],
  ['a UID that the image does not know', undefined, '7', [7, 0, [0]]],
  ['the build file wins', 'root', 'web', [0, 0, [0, 4]]],
  ['the build file names a group', '7:8', 'web', [7, 8, [8]]],
] as const)('%s', (_, asked, ofImage, [uid, gid, additionalGids]) => {
  expect(resolveUser(asked, ofImage, files)).toEqual({ uid, gid, additionalGids });
});

it('does without the files of an image that has none', () => {
  expect(resolveUser(undefined, undefined, { passwd: '', group: '' })).toEqual({
    uid: 0,
    gid: 0,
    additionalGids: [0],
  });
});

it('refuses a name that the image does not know', () => {
  expect(() => resolveUser('nobody', undefined, files)).toThrow('/etc/passwd does not know it');
});
