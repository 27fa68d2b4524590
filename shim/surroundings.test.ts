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
    lsm: 'none',
  });
  expect(surroundingsOf({})).toEqual({
    maskedPaths: [],
    readonlyPaths: [],
    devices: [],
    readOnlyRoot: false,
    lsm: 'none',
  });
  expect(surroundingsOf({ process: { selinuxLabel: 'system_u:system_r:container_t:s0:c1,c2' } }).lsm).toBe(
    'selinux',
  );
  expect(surroundingDifferences(saved, saved)).toEqual([]);
});

it.each<[Partial<typeof saved>, RegExp]>([
  [{ maskedPaths: ['/proc/kcore'] }, /^\/proc\/acpi was masked, and is not now$/],
  [{ maskedPaths: [...saved.maskedPaths, '/proc/keys'] }, /^\/proc\/keys is masked now, and was not$/],
  [{ readonlyPaths: [] }, /^\/proc\/sys was read-only, and is not now$/],
  [{ devices: [] }, /^\/dev\/fuse is a device that the pod does not have now$/],
  [{ devices: ['/dev/fuse', '/dev/kvm'] }, /^\/dev\/kvm is a new device$/],
  [
    { lsm: 'apparmor' },
    /^the checkpoint was made under neither AppArmor nor SELinux, the pod is under AppArmor$/,
  ],
  [{ readOnlyRoot: false }, /^the root file system was read-only, now it is writable$/],
])('names %j', (change, sentence) => {
  const found = surroundingDifferences(saved, { ...saved, ...change });
  expect(found).toHaveLength(1);
  expect(found[0]).toMatch(sentence);
});

it('say nothing of labels where the checkpoint does not', () => {
  const { lsm: _, ...older } = saved;
  expect(surroundingDifferences(older, { ...saved, lsm: 'selinux' })).toEqual([]);
});
