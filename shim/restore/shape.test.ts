import { expect, it } from 'vitest';
import type { OciSpec } from '../task/oci-spec.ts';
import { shapeOf } from './shape.ts';

const spec = (pod: string, change: Partial<OciSpec> = {}): OciSpec => ({
  process: { user: { uid: 0 }, env: [`HOSTNAME=${pod}`], capabilities: { bounding: ['CAP_KILL'] } },
  mounts: [{ destination: '/etc/hosts', type: 'bind', source: `/pods/${pod}`, options: ['rbind'] }],
  annotations: { 'io.kubernetes.cri.sandbox-name': pod },
  linux: { namespaces: [{ type: 'network', path: `/proc/${pod}/ns/net` }], cgroupsPath: `/${pod}` },
  ...change,
});

it('is the same in every pod of a kind', () => {
  expect(shapeOf(spec('a'))).toBe(shapeOf(spec('b')));
});

it.each<Partial<OciSpec>>([
  { mounts: [] },
  { process: { user: { uid: 1 }, capabilities: { bounding: ['CAP_KILL'] } } },
  { linux: { namespaces: [{ type: 'network' }] } },
  { linux: { namespaces: [{ type: 'network', path: '/n' }], resources: { memory: { limit: 1 } } } },
])('is another one with %j', (change) => {
  expect(shapeOf(spec('a', change))).not.toBe(shapeOf(spec('a')));
});

it('is another one where something else is done after the restore', () => {
  expect(shapeOf(spec('a'), { exec: ['/resume'] })).not.toBe(shapeOf(spec('a')));
});
