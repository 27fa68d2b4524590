/** Whether a restore gives its tasks the namespaces that the pod has, and no others. Pure. */
import { type DumpedNamespaces, NAMESPACES, type Namespace } from '../../checkpoint/criu/namespaces.ts';
import type { OciSpec } from '../task/oci-spec.ts';

/** Names under which runc hands the pod's namespaces to CRIU. Source: runc, libcontainer/criu_linux.go. */
const KEYS = { network: 'extRootNetNS', pid: 'extRootPidNS' } as const;

export function excessNamespaces(dumped: DumpedNamespaces, spec: OciSpec): string[] {
  const { outside, root, others } = dumped;
  const granted = new Map((spec.linux?.namespaces ?? []).map(({ type, path }) => [type, path || undefined]));
  const excess: string[] = [];
  for (const namespace of NAMESPACES) {
    const isOutside = root[namespace] === outside[namespace];
    // A user namespace with a map of its own would be one more root.
    if (namespace === 'user' ? !isOutside : granted.has(namespace) && isOutside)
      excess.push(
        namespace === 'user'
          ? 'the checkpoint has a user namespace of its own, the pod has not'
          : `the checkpoint has the node's ${namespace} namespace, the pod has its own`,
      );
    const stray = others.find(({ ids }) => (ids[namespace] ?? root[namespace]) !== root[namespace]);
    if (stray) excess.push(`process ${stray.pid} has another ${namespace} namespace than the container`);
  }
  return [
    ...excess,
    ...excessKeys('network', dumped.netKeys, granted),
    ...excessKeys('pid', dumped.pidKeys, granted),
  ];
}

function excessKeys(
  namespace: keyof typeof KEYS,
  keys: readonly (string | undefined)[],
  granted: ReadonlyMap<string, string | undefined>,
): string[] {
  const expected = granted.get(namespace) === undefined ? undefined : KEYS[namespace satisfies Namespace];
  const isJoined = keys.length > 0 || expected === undefined;
  if (isJoined && keys.every((key) => key === expected)) return [];
  const found = [...new Set(keys)].map((key) => key ?? 'a new one').join(', ') || 'none';
  return [
    `the checkpoint asks for the ${namespace} namespace "${found}", the pod gives "${expected ?? 'a new one'}"`,
  ];
}
