import { expect, it } from 'vitest';
import { sharingRisk } from './sharing.ts';

it('several processes and an older driver are a risk, unless the pod says that they share nothing', () => {
  expect(sharingRisk(1, '580.95.05')).toBeUndefined();
  expect(sharingRisk(3, '610.1')).toBeUndefined();
  expect(sharingRisk(2, '580.95.05')).toMatch(/^2 of its processes .* driver 580\.95\.05 would lose them/);
  expect(sharingRisk(2, '580.95.05', { 'thaw.dev/gpu-processes': 'independent' })).toBeUndefined();
  const named = { 'io.kubernetes.cri.container-name': 'a', 'thaw.dev/gpu-processes.a': 'independent' };
  expect(sharingRisk(2, '580.95.05', named)).toBeUndefined();
});

it('what is not known counts as the worst', () => {
  expect(sharingRisk(2, '')).toContain('would lose them');
  expect(sharingRisk(2, '580', { 'thaw.dev/gpu-processes': 'yes' })).toMatch(
    /thaw\.dev\/gpu-processes is "yes"$/,
  );
});
