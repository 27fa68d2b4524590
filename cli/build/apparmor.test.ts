import { expect, it } from 'vitest';
import { defaultProfile } from './apparmor.ts';

it.each([
  ['/usr/bin/man (enforce)\ncri-containerd.apparmor.d (enforce)\n', 'cri-containerd.apparmor.d'],
  ['cri-containerd.apparmor.d (complain)\n', 'cri-containerd.apparmor.d'],
  ['cri-containerd.apparmor.d2 (enforce)\n', undefined],
  ['', undefined],
])('in %j pods have the profile %s', (profiles, found) => {
  expect(defaultProfile(profiles)).toBe(found);
});
