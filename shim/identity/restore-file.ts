/** `/run/thaw/restore.json`: what a restored process is told of the pod it is in now. Pure; docs/identity.md describes it. */
import type { OciSpec } from '../task/oci-spec.ts';

export const RESTORE_FILE = '/run/thaw/restore.json';

/** What is told of the checkpoint. */
export interface Origin {
  /** Digest of its index, if it came from an image. */
  id?: string;
  /** RFC 3339. */
  created?: string;
  /** Reference of the image that the saved container ran from. */
  image?: string;
}

export interface RestoreFacts {
  /** New for each restore. */
  id: string;
  /** RFC 3339. */
  restoredAt: string;
  containerId: string;
  hostname: string | undefined;
  addresses: readonly string[];
  /** 32 random bytes in hexadecimal. */
  seed: string;
  checkpoint: Origin;
}

/** Names from containerd's annotations of CRI containers (internal/cri/annotations); a container of others has none. */
const CRI = 'io.kubernetes.cri.';

export function restoreFile(facts: RestoreFacts, { annotations = {}, process }: OciSpec): string {
  const { id, restoredAt, containerId, hostname, addresses, seed, checkpoint } = facts;
  const podName = annotations[`${CRI}sandbox-name`];
  const content = {
    version: 1,
    id,
    restoredAt,
    ...(podName === undefined
      ? {}
      : {
          pod: {
            name: podName,
            namespace: annotations[`${CRI}sandbox-namespace`],
            uid: annotations[`${CRI}sandbox-uid`],
          },
        }),
    container: { name: annotations[`${CRI}container-name`], id: containerId },
    hostname,
    addresses,
    env: environment(process?.env ?? []),
    seed,
    checkpoint,
  };
  return `${JSON.stringify(content, undefined, 2)}\n`;
}

/** Where a name comes twice the last one counts, as for runc. */
export function environment(variables: readonly string[]): Record<string, string> {
  const entries = variables.flatMap((variable): [string, string][] => {
    const at = variable.indexOf('=');
    return at <= 0 ? [] : [[variable.slice(0, at), variable.slice(at + 1)]];
  });
  return Object.fromEntries(entries);
}
