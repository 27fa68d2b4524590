import { expect, it } from 'vitest';
import { matchContainers, matchPod } from './find.ts';

const all = ['abc', 'abcdef', 'xyz'].map((id) => ({ id }));

it('prefers an exact id to ids that begin with it', () => {
  expect(matchContainers(all, 'abc')).toEqual([{ id: 'abc' }]);
});
it('finds all that begin with the name', () => {
  expect(matchContainers(all, 'ab').map(({ id }) => id)).toEqual(['abc', 'abcdef']);
  expect(matchContainers(all, 'bc')).toEqual([]);
});

it.each([
  ['llm-0', ['server', 'proxy', 'other']],
  ['models/llm-0', ['server', 'proxy']],
  ['models/llm-0/proxy', ['proxy']],
  ['models/proxy', []],
  ['llm', []],
])('matchPod(%s) finds %j, and no sandbox', (name, found) => {
  const of = (pod: string, namespace: string, container?: string): { labels: Record<string, string> } => ({
    labels: {
      'io.kubernetes.pod.name': pod,
      'io.kubernetes.pod.namespace': namespace,
      ...(container ? { 'io.kubernetes.container.name': container } : {}),
    },
  });
  const all = [
    of('llm-0', 'models'),
    of('llm-0', 'models', 'server'),
    of('llm-0', 'models', 'proxy'),
    of('llm-0', 'tests', 'other'),
    of('llm-1', 'models', 'server'),
    { labels: {} },
  ];
  expect(matchPod(all, name).map(({ labels }) => labels['io.kubernetes.container.name'])).toEqual(found);
});
