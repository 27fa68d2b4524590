import { expect, it } from 'vitest';
import { recordOf } from './record.ts';

const moment = { at: Date.UTC(2026, 0, 2, 3, 4, 5, 678), host: 'node-1' };
const pod = {
  annotations: {
    'io.kubernetes.cri.sandbox-name': 'llm-0',
    'io.kubernetes.cri.sandbox-namespace': 'models',
    'io.kubernetes.cri.sandbox-uid': 'u-1',
    'io.kubernetes.cri.container-name': 'server',
  },
};
const failed = {
  namespace: 'k8s.io',
  containerId: 'abcdef0123456789',
  checkpointId: 'sha256:aa',
  outcome: 'failed',
  phase: 'restore',
  reason: 'CRIU gave up',
  times: { plan: 1.4, fetch: 2.6 },
} as const;

it('is a Kubernetes event about the container of a pod', () => {
  expect(recordOf(failed, pod, moment)).toEqual({
    apiVersion: 'v1',
    kind: 'Event',
    metadata: {
      name: `llm-0.${moment.at.toString(16)}abcdef01`,
      namespace: 'models',
      annotations: {
        'thaw.dev/containerd-namespace': 'k8s.io',
        'thaw.dev/container-id': 'abcdef0123456789',
        'thaw.dev/checkpoint': 'sha256:aa',
        'thaw.dev/phase': 'restore',
        'thaw.dev/reasons': '["CRIU gave up"]',
        'thaw.dev/times': '{"plan":1,"fetch":3}',
      },
    },
    involvedObject: {
      apiVersion: 'v1',
      kind: 'Pod',
      namespace: 'models',
      name: 'llm-0',
      uid: 'u-1',
      fieldPath: 'spec.containers{server}',
    },
    reason: 'RestoreFailed',
    message: 'Started cold after a restore that failed: CRIU gave up',
    type: 'Warning',
    source: { component: 'thaw', host: 'node-1' },
    firstTimestamp: '2026-01-02T03:04:05.678Z',
    lastTimestamp: '2026-01-02T03:04:05.678Z',
    count: 1,
    reportingComponent: 'thaw.dev/shim',
    reportingInstance: 'node-1',
  });
});

it('is about the container where there is no pod, and holds a long message within what an API server takes', () => {
  const record = recordOf({ ...failed, reason: 'x'.repeat(3000), reasons: ['a', 'b'] }, {}, moment);
  expect(record?.involvedObject).toEqual({
    kind: 'Container',
    namespace: 'k8s.io',
    name: 'abcdef0123456789',
  });
  expect(record?.message).toHaveLength(1024);
  expect(record?.metadata.annotations['thaw.dev/reasons']).toBe('["a","b"]');
});

it('says nothing of memory that has arrived', () => {
  expect(recordOf({ ...failed, outcome: 'filled', phase: 'memory' }, pod, moment)).toBeUndefined();
});
