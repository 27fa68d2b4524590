import { expect, it } from 'vitest';
import { sharingRisk } from './sharing.ts';

const own = (processes: number, isSpread = false) => ({ processes, isSpread, peers: [] });
const INDEPENDENT = { 'thaw.dev/gpu-processes': 'independent' };

it('one process that has its GPUs for itself is no risk', () => {
  expect(sharingRisk(own(1), '580.95.05')).toBeUndefined();
});

it('several processes are, unless the pod says that they share nothing', () => {
  expect(sharingRisk(own(2), '580.95.05')).toMatch(
    /^2 of its processes .* driver 580\.95\.05 would lose them/,
  );
  expect(sharingRisk(own(2), '580.95.05', INDEPENDENT)).toBeUndefined();
  const named = { 'io.kubernetes.cri.container-name': 'a', 'thaw.dev/gpu-processes.a': 'independent' };
  expect(sharingRisk(own(2), '580.95.05', named)).toBeUndefined();
});

it('a driver that can save shared memory does so in jobs alone', () => {
  expect(sharingRisk(own(3), '610.57.04')).toMatch(
    /^3 of .* driver 610\.57\.04 saves .* only in a job of cuda-checkpoint/,
  );
  expect(sharingRisk(own(3), '610.57.04', INDEPENDENT)).toBeUndefined();
});

it('one with several GPUs is, which may have access to each other', () => {
  expect(sharingRisk(own(1, true), '580.95.05')).toMatch(
    /^one of its processes uses several GPUs, .*peer access/,
  );
  expect(sharingRisk(own(1, true), '580.95.05', INDEPENDENT)).toBeUndefined();
});

it('processes of others on its GPUs are named', () => {
  const peers = [7, 8, 9, 10].map((pid) => ({ pid, name: pid === 8 ? '' : 'python3' }));
  const risk = (count: number) => sharingRisk({ ...own(1), peers: peers.slice(0, count) }, '610.1');
  expect(risk(1)).toMatch(/^process 7 \(python3\) outside the container has its GPU in use too/);
  expect(risk(4)).toMatch(
    /^processes 7 \(python3\), 8, 9 \(python3\) and 1 more outside the container have its GPU/,
  );
  expect(sharingRisk({ ...own(2), peers }, '580', INDEPENDENT)).toBeUndefined();
});

it('what is not known counts as the worst', () => {
  expect(sharingRisk(own(2), '')).toContain('would lose them');
  expect(sharingRisk(own(2), '580', { 'thaw.dev/gpu-processes': 'yes' })).toMatch(
    /thaw\.dev\/gpu-processes is "yes"$/,
  );
});
