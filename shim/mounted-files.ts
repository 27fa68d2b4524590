/**
 * Digests of what config maps and secrets hold, for the launch fingerprint: a server that has read its configuration would
 * not read the changed one. Projected volumes are left out, because a service account's token is new in every pod.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Launch } from '../checkpoint/facts.ts';
import type { OciMount, OciSpec } from './task/oci-spec.ts';

/** Source: Kubernetes, pkg/volume/configmap and secret: <kubelet root>/pods/<uid>/volumes/kubernetes.io~configmap/<name>. */
const VOLUME = /\/pods\/[^/]+\/volumes\/kubernetes\.io~(configmap|secret)\/[^/]+$/;
/** An API server takes no object larger than 1 MiB. */
const MAX_BYTES = 4 << 20;

/** By destination. A volume that cannot be read, or is larger than Kubernetes makes one, is left out. */
export async function mountedFiles(spec: OciSpec): Promise<NonNullable<Launch['files']>> {
  const volumes = (spec.mounts ?? []).filter(isFixed);
  const digests = await Promise.all(
    volumes.map(async ({ source = '', destination }) => {
      const digest = await digestOfTree(source).catch(() => undefined);
      return digest ? [{ destination, digest }] : [];
    }),
  );
  return digests.flat().sort((a, b) => (a.destination < b.destination ? -1 : 1));
}

function isFixed({ source, options }: OciMount): boolean {
  return source !== undefined && VOLUME.test(source) && (options ?? []).includes('ro');
}

async function digestOfTree(root: string): Promise<string | undefined> {
  const hash = createHash('sha256');
  let left = MAX_BYTES;
  const visit = async (dir: string): Promise<void> => {
    // A kubelet's own entries begin with two dots; the names that a container sees are links through them.
    const names = (await readdir(join(root, dir))).filter((name) => !name.startsWith('..')).sort();
    for (const name of names) {
      const path = join(dir, name);
      const info = await stat(join(root, path));
      if (info.isDirectory()) await visit(path);
      if (!info.isFile()) continue;
      left -= info.size;
      if (left < 0) return;
      const content = createHash('sha256').update(await readFile(join(root, path)));
      hash.update(JSON.stringify([path, content.digest('hex')]));
    }
  };
  await visit('');
  return left < 0 ? undefined : `sha256:${hash.digest('hex')}`;
}
