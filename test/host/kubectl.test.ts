/** The kubectl lines of the documents, by kubectl itself, in their order, against a fake API server. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { docCommands } from '../../scripts/docs-commands.ts';
import { FakeApiServer } from '../lib/fake-api-server.ts';
import { type RunResult, run } from '../lib/index.ts';

const repo = join(import.meta.dirname, '../..');
const nodeDir = process.env['THAW_NODE_DIR'] ?? join(repo, '.node');
const lines = docCommands().filter(({ line }) => line.startsWith('kubectl '));
const READY = { 'thaw.dev/ready': 'true' };

let server: FakeApiServer;
let home: string;

beforeAll(async () => {
  await run(join(repo, 'scripts/node'), ['create', '--suite', 'bookworm'], { timeoutMs: 600_000 });
  home = mkdtempSync(join(tmpdir(), 'kubectl-'));
  server = await FakeApiServer.start();
  server.add({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'NODE' }, spec: {} });
}, 700_000);
afterAll(async () => {
  await server?.stop();
  if (home) rmSync(home, { recursive: true });
});

function kubectl(line: string): Promise<RunResult> {
  const [, ...words] = line.split(' ');
  // An installed node has these files there.
  const args = words.map((word) => word.replace('/opt/thaw/current/share', 'deploy'));
  return run(join(nodeDir, 'bookworm/usr/bin/kubectl'), ['--server', server.url, ...args], {
    cwd: repo,
    env: { HOME: home },
    timeoutMs: 60_000,
  });
}

const labels = () => server.get('Node', 'NODE')?.metadata.labels;
const kinds = () => server.all().map(({ kind }) => kind);

/** What is true once a line has been run; first what has to be before. */
const EFFECTS: readonly [RegExp, { before?: () => void; after: (said: string) => void }][] = [
  [
    /apply -f \S+runtimeclass\.yaml$/,
    { after: () => expect(server.get('RuntimeClass', 'thaw')).toMatchObject({ handler: 'thaw' }) },
  ],
  [
    /label node NODE thaw\.dev\/ready=true$/,
    {
      before: () => server.add({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'NODE' }, spec: {} }),
      after: () => {
        expect(labels()).toEqual(READY);
        const { scheduling } = server.get('RuntimeClass', 'thaw') as { scheduling?: object };
        expect(scheduling).toEqual({ nodeSelector: READY });
      },
    },
  ],
  [/kustomize \S+$/, { after: (said) => expect(said).toMatch(/^kind: DaemonSet$/m) }],
  [
    /apply -k \S+$/,
    {
      after: () =>
        expect(kinds()).toEqual(
          expect.arrayContaining(['Namespace', 'DaemonSet', 'ServiceAccount', 'ClusterRoleBinding']),
        ),
    },
  ],
  [/rollout status daemonset\/\S+$/, { after: (said) => expect(said).toContain('successfully rolled out') }],
  [/get nodes -l \S+$/, { after: (said) => expect(said).toMatch(/^NODE\s/m) }],
  [
    /drain NODE --ignore-daemonsets$/,
    {
      before: () =>
        server.add({
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: {
            name: 'installer',
            namespace: 'thaw-system',
            ownerReferences: [
              {
                apiVersion: 'apps/v1',
                kind: 'DaemonSet',
                name: 'thaw-installer',
                uid: 'x',
                controller: true,
              },
            ],
          },
          spec: { nodeName: 'NODE' },
          status: { phase: 'Running' },
        }),
      after: () => {
        expect(server.get('Node', 'NODE')).toMatchObject({ spec: { unschedulable: true } });
        expect(server.get('Pod', 'installer')).toBeDefined();
      },
    },
  ],
  [/delete -k \S+$/, { after: () => expect(kinds()).not.toContain('DaemonSet') }],
];

describe('docs', () => {
  it('have some', () => expect(lines.length).toBeGreaterThan(8));

  it.each(lines)('$document: $line', async ({ line }) => {
    const [, effect] = EFFECTS.find(([pattern]) => pattern.test(line)) ?? [];
    if (!effect) throw new Error('it is not known here what it should do');
    effect.before?.();
    const { stdout } = await kubectl(line);
    effect.after(stdout);
  });
});

it('the Job is created as it is', async () => {
  await kubectl('kubectl create -f deploy/kubernetes/build-job.yaml');
  expect(kinds()).toEqual(expect.arrayContaining(['Job', 'ConfigMap']));
});
