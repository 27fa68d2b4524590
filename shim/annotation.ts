/** What a pod's annotations say to one of its containers. Pure. */

/** Set by containerd's CRI in each container's spec. Source: pkg/cri/annotations. */
const CONTAINER_NAME = 'io.kubernetes.cri.container-name';

/**
 * A kubelet hands a pod's annotations to all of its containers alike, so one container is named by its name behind a dot,
 * which wins: `thaw.dev/restore.server: require`.
 */
export function annotationOf(
  annotations: Readonly<Record<string, string>>,
  key: string,
): readonly [string, string] | undefined {
  for (const name of [`${key}.${annotations[CONTAINER_NAME] ?? ''}`, key]) {
    const value = annotations[name];
    if (value !== undefined) return [name, value];
  }
  return undefined;
}
