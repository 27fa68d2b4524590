/** Where a shim listens, by containerd's convention: shims and containerd's own tools find each other by it. Pure. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';

const DEFAULT_SOCKET_DIR = '/run/containerd/s';
/** sun_path has 108 bytes; containerd leaves some. */
export const MAX_SOCKET_PATH = 106;

/** Containers of one pod share a server. */
const GROUP_ANNOTATIONS = ['io.containerd.runc.v2.group', 'io.kubernetes.cri.sandbox-id'];

export function groupKey(annotations: Readonly<Record<string, string>> | undefined, id: string): string {
  for (const name of GROUP_ANNOTATIONS) {
    const value = annotations?.[name];
    if (value) return value;
  }
  return id;
}

/** @param daemonAddress containerd's gRPC address as it was given. */
export function socketPath(
  daemonAddress: string,
  namespace: string,
  group: string,
  directory = DEFAULT_SOCKET_DIR,
): string {
  const hash = createHash('sha256')
    .update(join(daemonAddress, namespace, group))
    .digest('hex');
  return join(directory, hash);
}
