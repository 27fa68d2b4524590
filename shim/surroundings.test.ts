import { expect, it } from 'vitest';
import { surroundingDifferences, surroundingsOf } from './surroundings.ts';

const spec = {
  root: { readonly: true },
  linux: {
    maskedPaths: ['/proc/kcore', '/proc/acpi'],
    readonlyPaths: ['/proc/sys'],
    devices: [{ path: '/dev/fuse' }, { path: '/dev/nvidia0' }],
  },
};
const saved = surroundingsOf(spec);

it('are read from the spec, without GPUs, which a restore gives anew', () => {
  expect(saved).toEqual({
    maskedPaths: ['/proc/acpi', '/proc/kcore'],
    readonlyPaths: ['/proc/sys'],
    devices: ['/dev/fuse'],
    readOnlyRoot: true,
  });
  expect(surroundingsOf({})).toEqual({
    maskedPaths: [],
    readonlyPaths: [],
    devices: [],
    readOnlyRoot: false,
  });
  expect(surroundingDifferences(saved, saved)).toEqual([]);
});

it.each<[Partial<typeof saved>, RegExp]>([
  [{ maskedPaths: ['/proc/kcore'] }, /^\/proc\/acpi was masked, and is not now$/],
  [{ maskedPaths: [...saved.maskedPaths, '/proc/keys'] }, /^\/proc\/keys is masked now, and was not$/],
  [{ readonlyPaths: [] }, /^\/proc\/sys was read-only, and is not now$/],
  [{ devices: [] }, /^\/dev\/fuse is a device that the pod does not have now$/],
  [{ devices: ['/dev/fuse', '/dev/kvm'] }, /^\/dev\/kvm is a new device$/],
  [{ readOnlyRoot: false }, /^the root file system was read-only, now it is writable$/],
])('names %j', (change, sentence) => {
  const found = surroundingDifferences(saved, { ...saved, ...change });
  expect(found).toHaveLength(1);
  expect(found[0]).toMatch(sentence);
});
