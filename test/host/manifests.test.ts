/** deploy/kubernetes through `kubectl kustomize`, and into the API types that kubectl is built with. */
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { run } from '../lib/index.ts';

const node = join(import.meta.dirname, '../../scripts/node');
/** No API server is asked: a patch of nothing shows what kubectl has read. */
const SCRIPT = `set -e
kubectl kustomize /thaw/deploy/kubernetes >/tmp/all.yaml
cat /tmp/all.yaml
echo ======
csplit -s -z -f /tmp/one- /tmp/all.yaml '/^---$/' '{*}'
for file in /tmp/one-*; do kubectl patch --local -f "$file" --type=merge -p '{}' -o json; echo ======; done`;

interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string };
  [key: string]: unknown;
}

let yaml = '';
let manifests: Manifest[] = [];
beforeAll(async () => {
  await run(node, ['create', '--suite', 'bookworm'], { timeoutMs: 600_000 });
  const { stdout } = await run(node, ['exec', '--suite', 'bookworm', '--', 'sh', '-c', SCRIPT]);
  const [first = '', ...others] = stdout.split('======\n');
  yaml = first;
  manifests = others.filter((text) => text.trim() !== '').map((text) => JSON.parse(text) as Manifest);
}, 700_000);

const of = (kind: string) => manifests.filter((manifest) => manifest.kind === kind);

function keysOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(keysOf);
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, below]) => [key, ...keysOf(below)]);
}

describe('deploy/kubernetes', () => {
  it('makes what an installation needs', () => {
    expect(manifests.map(({ kind, metadata }) => `${kind} ${metadata.name}`).sort()).toEqual([
      'ClusterRole thaw-installer',
      'ClusterRoleBinding thaw-installer',
      'DaemonSet thaw-installer',
      'Namespace thaw-system',
      'Role thaw-installer',
      'RoleBinding thaw-installer',
      'RuntimeClass thaw',
      'ServiceAccount thaw-installer',
    ]);
  });
  it("has no field that Kubernetes' types do not know: kubectl drops those", () => {
    const known = new Set(keysOf(manifests));
    const written = [...yaml.matchAll(/^\s*(?:- )*([A-Za-z][\w./-]*):(?= |$)/gm)].map(([, key]) => key);
    expect(written.length).toBeGreaterThan(50);
    expect(written.filter((key) => key !== undefined && !known.has(key))).toEqual([]);
  });
  it('lets the installer ask for its own DaemonSet, label nodes, and nothing else', () => {
    expect(of('Role').map(({ rules }) => rules)).toEqual([
      [{ apiGroups: ['apps'], resources: ['daemonsets'], resourceNames: ['thaw-installer'], verbs: ['get'] }],
    ]);
    expect(of('ClusterRole').map(({ rules }) => rules)).toEqual([
      [{ apiGroups: [''], resources: ['nodes'], verbs: ['patch'] }],
    ]);
    expect(of('ClusterRoleBinding')[0]).toMatchObject({
      roleRef: { kind: 'ClusterRole', name: 'thaw-installer' },
      subjects: [{ kind: 'ServiceAccount', name: 'thaw-installer', namespace: 'thaw-system' }],
    });
    expect(of('RoleBinding')[0]).toMatchObject({
      roleRef: { kind: 'Role', name: 'thaw-installer' },
      subjects: [{ kind: 'ServiceAccount', name: 'thaw-installer', namespace: 'thaw-system' }],
    });
    expect(of('DaemonSet')[0]).toMatchObject({
      metadata: { namespace: 'thaw-system' },
      spec: { template: { spec: { serviceAccountName: 'thaw-installer', hostPID: true } } },
    });
  });
});
