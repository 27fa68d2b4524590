import { readdir } from 'node:fs/promises';
import type { Containerd } from '../../../test/lib/containerd.ts';
import { until } from '../../../test/lib/wait.ts';

/** What a node holds of images: one entry each, comparable between two moments. */
export type Holdings = readonly string[];

/** Images, snapshots and blobs that containerd knows, and what lies in thaw's folders. */
export async function holdings(containerd: Containerd): Promise<Holdings> {
  const list = async (kind: string, ...args: string[]) => {
    const { stdout } = await containerd.ctr(['--namespace', 'k8s.io', ...args]);
    const lines = stdout.split('\n').filter((line) => line.trim() !== '');
    return lines.map((line) => `${kind} ${line.trim().split(/\s+/)[0]}`);
  };
  return [
    ...(await list('image', 'images', 'list', '--quiet')),
    ...(await list('blob', 'content', 'list', '--quiet')),
    ...(await list('snapshot', 'snapshots', '--snapshotter', 'thaw', 'list')),
    ...(await folder('/var/lib/thaw/snapshots')),
    ...(await folder('/var/lib/thaw/cache')),
    ...(await folder('/var/lib/thaw/work')),
  ].sort();
}

/** Waits until the node holds nothing but `before`: containerd collects what it no longer needs a moment later. */
export async function waitForHoldings(containerd: Containerd, before: Holdings): Promise<void> {
  const known = new Set(before);
  let left: string[] = [];
  await until(
    'images, snapshots and caches to be gone',
    async () => {
      left = (await holdings(containerd)).filter((entry) => !known.has(entry));
      if (left.length > 0) throw new Error(`still there: ${left.join(', ')}`);
      return true;
    },
    20_000,
  );
}

async function folder(path: string): Promise<string[]> {
  const names = await readdir(path).catch(() => []);
  return names.map((name) => `${path}/${name}`);
}
