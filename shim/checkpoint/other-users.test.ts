import { expect, it } from 'vitest';
import { hasSysResource, otherUser } from './other-users.ts';

const status = (ids: number[], groups: number[], state = 'S (sleeping)') =>
  `Name:\tx\nState:\t${state}\nUid:\t${ids.join('\t')}\nGid:\t${groups.join('\t')}\nCapEff:\t00000000a80425fb\n`;
const zero = [0, 0, 0, 0];
const root = status(zero, zero);

it.each([
  [root, undefined],
  [status([0, 0, 0, 7], zero), undefined],
  [status([0, 1000, 0, 0], zero), 'user 1000'],
  [status(zero, [0, 0, 33, 0]), 'group 33'],
  [status([1000, 1000, 1000, 1000], zero, 'Z (zombie)'), undefined],
])('the user of another process (case %#)', (other, said) => {
  expect(otherUser(root, other)).toBe(said);
});

it('knows CAP_SYS_RESOURCE', () => {
  expect(hasSysResource(root)).toBe(false);
  expect(hasSysResource('CapEff:\t000001ffffffffff\n')).toBe(true);
});
