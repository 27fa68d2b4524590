/** Images with lazy layers on a node without thaw, and what the kernel's EROFS makes of their metadata. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { chainId } from '../checkpoint/chain-id.ts';
import { layerMetadata } from '../checkpoint/lazy/layer-index.ts';
import { native } from '../native/index.ts';
import { dumpTree } from './lib/dump-tree.ts';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  image,
  type Leftovers,
  layer,
  privateDir,
  push,
  Registry,
  takeStock,
} from './lib/index.ts';
import { convertLazily, oddLayer, readLazyImage, topLayer } from './lib/odd-layers.ts';

const MS_RDONLY = 1;

let before: Leftovers;
let registry: Registry;
let containerd: Containerd;
beforeAll(async () => {
  before = takeStock();
  registry = await Registry.start();
  containerd = await Containerd.start();
});
afterAll(async () => {
  await containerd.removeContainers();
  await containerd.stop();
  await registry.stop();
  await assertNothingLeft(before);
});

const ctr = (...args: string[]) => containerd.ctr(args, { timeoutMs: 60_000 });
const pull = (reference: string) =>
  ctr(
    'images',
    'pull',
    '--plain-http',
    ...(containerd.version === '2' ? ['--local'] : []),
    '--snapshotter',
    'overlayfs',
    reference,
  );

/** Directories of an image's layers as overlayfs has unpacked them, topmost first. */
async function unpacked(chain: string): Promise<string[]> {
  // One call: nothing refers to the view, so that the next collection of garbage takes it.
  const { stdout } = await ctr('snapshots', 'view', '--target', '/mnt', 'probe', chain);
  return (/lowerdir=([^,\s]+)/.exec(stdout)?.[1] ?? '').split(':');
}

it('run under overlayfs as any image, and their metadata show what it unpacks', async () => {
  const base = await layer([...busybox(), { path: 'etc/motd', content: 'base' }]);
  const layers = [base, oddLayer(), topLayer()];
  const source = await push(registry.host, 'test/odd', 'plain', image(layers, { cmd: ['sh'] }));
  const target = `${registry.host}/test/odd:lazy`;
  const workDir = privateDir('convert');
  await convertLazily(source, target, workDir);

  await pull(source);
  await pull(target);
  const ran = await ctr(
    ...['run', '--rm', '--snapshotter', 'overlayfs', target, 'one'],
    ...['sh', '-c', 'cat /etc/motd; ls /odd/deep'],
  );
  expect(ran.stdout).toBe('toponly\n');

  const lazy = await readLazyImage(registry.host, 'test/odd', 'lazy');
  const directories = (await unpacked(chainId(layers.map(({ digest }) => digest)) ?? '')).reverse();
  expect(directories.length).toBe(3);
  for (const [i, { digest, index }] of lazy.layers.entries()) {
    const work = join(workDir, String(i));
    mkdirSync(join(work, 'mounted'), { recursive: true });
    const tar = zstdDecompressSync(await lazy.blob(digest));
    expect(tar.equals(layers[i]?.bytes ?? Buffer.alloc(0))).toBe(true);
    writeFileSync(join(work, 'tar'), tar);
    writeFileSync(join(work, 'metadata'), await layerMetadata(index));
    native.mount(
      join(work, 'metadata'),
      join(work, 'mounted'),
      'erofs',
      MS_RDONLY,
      `device=${join(work, 'tar')}`,
    );
    try {
      expect(comparable(await dumpTree(join(work, 'mounted')))).toEqual(
        comparable(await dumpTree(directories[i] ?? '')),
      );
      if (i === 1)
        expect(readFileSync(join(work, 'mounted/odd/zeros')).equals(Buffer.alloc(3 << 20))).toBe(true);
    } finally {
      native.umount(join(work, 'mounted'), 0);
    }
  }
});

/** containerd gives whiteouts, and directories that a tar has no entry for, the time of the pull. */
function comparable(lines: readonly string[]): string[] {
  const timeless = /^(new|new\/parent|etc|odd|odd\/deep) |"device": \[0, 0\]/;
  return lines.map((line) => (timeless.test(line) ? line.replace(/"mtime": \d+, /, '') : line));
}
