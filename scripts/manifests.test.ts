/**
 * deploy/kubernetes against the schemas of Kubernetes' OpenAPI description, which kubernetes-models has compiled. They allow
 * fields that they do not know; what those are kubectl finds in test/host/manifests.test.ts.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DaemonSet, Deployment } from 'kubernetes-models/apps/v1';
import { Job } from 'kubernetes-models/batch/v1';
import { RuntimeClass } from 'kubernetes-models/node.k8s.io/v1';
import {
  ClusterRole,
  ClusterRoleBinding,
  Role,
  RoleBinding,
} from 'kubernetes-models/rbac.authorization.k8s.io/v1';
import { ConfigMap, Namespace, ServiceAccount } from 'kubernetes-models/v1';
import { expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';

interface Manifest {
  kind: string;
  apiVersion: string;
  metadata: { name: string };
}

const MODELS: Readonly<Record<string, { new (data: never): { validate(): void } }>> = {
  ...{ DaemonSet, Deployment, Job, RuntimeClass, ClusterRole, ClusterRoleBinding, Role, RoleBinding },
  ...{ ConfigMap, Namespace, ServiceAccount },
};

const root = join(import.meta.dirname, '..');
const folder = join(root, 'deploy/kubernetes');
const manifests = readdirSync(folder)
  // Read by kubectl alone, which refuses what it does not know: test/host/manifests.test.ts.
  .filter((name) => name !== 'kustomization.yaml')
  .flatMap((name) => parse(readFileSync(join(folder, name), 'utf8')));

function parse(text: string): Manifest[] {
  return parseAllDocuments(text).map((document) => document.toJS({ maxAliasCount: 0 }) as Manifest);
}

/** Throws, naming the field, for what the schema of its kind does not allow. */
function validate(manifest: Manifest): void {
  const Model = MODELS[manifest.kind];
  if (!Model) throw new Error(`there is no schema for a ${manifest.kind}`);
  new Model(manifest as never).validate();
}

const shown = [
  ...readFileSync(join(root, 'docs/kubernetes.md'), 'utf8').matchAll(/^```yaml\n(.*?)^```/gms),
].flatMap(([, block = '']) => parse(block));

it('are all there', () => {
  expect(manifests.map(({ kind }) => kind).sort()).toEqual([
    'ClusterRole',
    'ClusterRoleBinding',
    'ConfigMap',
    'DaemonSet',
    'Job',
    'Namespace',
    'Role',
    'RoleBinding',
    'RuntimeClass',
    'ServiceAccount',
  ]);
  expect(shown.map(({ kind }) => kind)).toEqual(['Deployment']);
});

it.each([...manifests, ...shown].map((manifest) => [manifest.kind, manifest] as const))(
  'a %s is one',
  (_, manifest) => validate(manifest),
);

/** Sets one field, or takes it away. */
function changed(kind: string, path: string, value: unknown): Manifest {
  const manifest = structuredClone([...manifests, ...shown].find((one) => one.kind === kind));
  if (!manifest) throw new Error(`there is no ${kind}`);
  const names = path.split('.');
  const last = names.pop() ?? '';
  let at = manifest as unknown as Record<string, unknown>;
  for (const name of names) at = at[name] as Record<string, unknown>;
  if (value === undefined) delete at[last];
  else at[last] = value;
  return manifest;
}

const container = 'spec.template.spec.containers.0';

it.each([
  ['DaemonSet', 'apiVersion', 'extensions/v1beta1', /apiVersion/],
  ['DaemonSet', 'spec.selector', undefined, /selector/],
  ['DaemonSet', 'spec.updateStrategy.rollingUpdate.maxUnavailable', [1], /maxUnavailable/],
  ['DaemonSet', `${container}.securityContext.privileged`, 'true', /privileged/],
  ['DaemonSet', `${container}.resources.requests.memory`, '64 megabytes', /memory/],
  ['DaemonSet', 'spec.template.spec.volumes.0.hostPath.path', undefined, /path/],
  ['Job', 'spec.backoffLimit', '0', /backoffLimit/],
  ['Job', `${container}.volumeMounts.0.mountPath`, undefined, /mountPath/],
  ['Job', 'spec.template.spec.containers', undefined, /containers/],
  ['RuntimeClass', 'handler', undefined, /handler/],
  ['RuntimeClass', 'overhead.podFixed.memory', 'much', /memory/],
  ['RuntimeClass', 'scheduling.nodeSelector', ['thaw.dev/ready'], /nodeSelector/],
  ['ClusterRoleBinding', 'roleRef.name', undefined, /name/],
  ['Role', 'rules.0.verbs', 'get', /verbs/],
  ['ConfigMap', 'data', { 'build.toml': 1 }, /data/],
  ['Deployment', 'spec.replicas', 'one', /replicas/],
])('a %s with another %s, %j, is none', (kind, path, value, said) => {
  expect(() => validate(changed(kind, path, value))).toThrow(said);
});
