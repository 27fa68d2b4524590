import { describe, expect, it } from 'vitest';
import type { OciSpec } from '../task/oci-spec.ts';
import { environment, restoreFile } from './restore-file.ts';

const facts = {
  id: 'abc',
  restoredAt: '2026-01-02T03:04:05.678Z',
  containerId: 'c1',
  hostname: 'web-2',
  addresses: ['10.88.0.7'],
  seed: '00ff',
  checkpoint: { id: 'sha256:1', created: '2026-01-01T00:00:00Z', image: 'registry.example/web:1' },
};
const spec: OciSpec = {
  process: { env: ['PATH=/bin', 'POD=web-2', 'EMPTY=', 'EQUALS=a=b'] },
  annotations: {
    'io.kubernetes.cri.container-name': 'server',
    'io.kubernetes.cri.sandbox-name': 'web-2',
    'io.kubernetes.cri.sandbox-namespace': 'models',
    'io.kubernetes.cri.sandbox-uid': 'u-1',
  },
};

describe('what a restored process is told', () => {
  it('is the pod that it is in', () => {
    expect(JSON.parse(restoreFile(facts, spec))).toEqual({
      version: 1,
      id: 'abc',
      restoredAt: '2026-01-02T03:04:05.678Z',
      pod: { name: 'web-2', namespace: 'models', uid: 'u-1' },
      container: { name: 'server', id: 'c1' },
      hostname: 'web-2',
      addresses: ['10.88.0.7'],
      env: { PATH: '/bin', POD: 'web-2', EMPTY: '', EQUALS: 'a=b' },
      seed: '00ff',
      checkpoint: facts.checkpoint,
    });
  });

  it('names no pod where there is none', () => {
    const told = JSON.parse(restoreFile({ ...facts, hostname: undefined }, { process: {} }));
    expect(told).not.toHaveProperty('pod');
    expect(told).not.toHaveProperty('hostname');
    expect(told).toMatchObject({ container: { id: 'c1' }, env: {} });
  });
});

it('of a variable that is set twice the last value counts, and a name may be any', () => {
  const env = environment(['A=1', 'A=2', '__proto__=x', 'no value', '=odd']);
  expect(Object.entries(env)).toEqual([
    ['A', '2'],
    ['__proto__', 'x'],
  ]);
});
