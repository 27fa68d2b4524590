/** Lazy layers on a thaw node, read while their bytes come, and while daemon and registry go. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { chainIds } from '../checkpoint/chain-id.ts';
import { LAYER_ANNOTATION } from '../checkpoint/lazy/index-layer.ts';
import { layerMetadata } from '../checkpoint/lazy/layer-index.ts';
import { native } from '../native/index.ts';
import { Code } from '../proto/status.ts';
import { SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { dumpTree } from './lib/dump-tree.ts';
import {
  assertNothingLeft,
  image,
  type Leftovers,
  privateDir,
  push,
  Registry,
  takeStock,
  until,
} from './lib/index.ts';
import {
  convertLazily,
  type LazyImage,
  noise,
  noiseLayer,
  oddLayer,
  readLazyImage,
  topLayer,
} from './lib/odd-layers.ts';
import { SlowLink } from './lib/slow-link.ts';

const MS_RDONLY = 1;
const READ_TIMEOUT_MS = 3000;
const SLOW = 200_000;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
/** In another process: a read that waits must not hold up this one. */
const sumOf = async (path: string) =>
  (await promisify(execFile)('sha256sum', [path], { timeout: 60_000 })).stdout.split(' ')[0];

let before: Leftovers;
let registry: Registry;
let link: SlowLink;
let thaw: ThawDaemon;
let lazy: LazyImage;
let workDir: string;

beforeAll(async () => {
  registry = await Registry.start();
  workDir = privateDir('convert');
  const layers = [oddLayer(), topLayer(), noiseLayer()];
  const source = await push(registry.host, 'test/odd', 'plain', image(layers, { cmd: ['sh'] }));
  await convertLazily(source, `${registry.host}/test/odd:lazy`, workDir);
  lazy = await readLazyImage(registry.host, 'test/odd', 'lazy');
});
afterAll(async () => {
  await registry.stop();
  rmSync(workDir, { recursive: true, force: true });
});
beforeEach(async () => {
  before = takeStock();
  link = await SlowLink.start(registry.host);
  // The stream of everything; what is waited for comes at once.
  link.rate = SLOW;
  thaw = await ThawDaemon.start({ fetch: { read_timeout_ms: READ_TIMEOUT_MS } });
});
afterEach(async () => {
  link.held = false;
  await removeAll();
  await thaw.stop();
  await link.cut();
  await assertNothingLeft(before);
});

const chains = () => chainIds([lazy.indexLayer.digest, ...lazy.layers.map(({ index }) => index.diffId)]);

async function withSnapshots<T>(work: (snapshots: SnapshotsClient) => Promise<T>): Promise<T> {
  const snapshots = new SnapshotsClient(thaw.socket);
  try {
    return await work(snapshots);
  } finally {
    snapshots.close();
  }
}

/** What containerd asks for when it pulls the image. Answers the directory of each lazy layer, bottom first. */
const pull = () =>
  withSnapshots(async (snapshots) => {
    for (const [i, { digest, annotation }] of [lazy.indexLayer, ...lazy.layers].entries()) {
      const prepared = snapshots.prepare(`k8s.io/${i}/extract ${chains()[i]}`, chains()[i - 1] ?? '', {
        'containerd.io/snapshot.ref': chains()[i] ?? '',
        [LAYER_ANNOTATION]: annotation,
        'containerd.io/snapshot/cri.image-ref': `${link.host}/test/odd:lazy`,
        'containerd.io/snapshot/cri.layer-digest': digest,
      });
      await expect(prepared).rejects.toMatchObject({ code: Code.alreadyExists });
    }
    const [mount] = await snapshots.view('probe', chains().at(-1) ?? '');
    await snapshots.remove('probe');
    const lower = mount?.options.find((option) => option.startsWith('lowerdir=')) ?? '';
    const directories = lower.slice('lowerdir='.length).split(':').reverse();
    expect(directories.length).toBe(4);
    return directories.slice(1);
  });

const removeAll = () =>
  withSnapshots(async (snapshots) => {
    for (const chain of chains().reverse()) await snapshots.remove(chain).catch(() => {});
  });

/** The layer on a whole tar, without thaw. */
async function dumpWhole(i: number): Promise<string[]> {
  const { digest, index } = lazy.layers[i] as LazyImage['layers'][number];
  const work = join(workDir, `whole-${i}`);
  mkdirSync(join(work, 'mounted'), { recursive: true });
  writeFileSync(join(work, 'tar'), zstdDecompressSync(await lazy.blob(digest)));
  writeFileSync(join(work, 'metadata'), await layerMetadata(index));
  native.mount(
    join(work, 'metadata'),
    join(work, 'mounted'),
    'erofs',
    MS_RDONLY,
    `device=${join(work, 'tar')}`,
  );
  try {
    return await dumpTree(join(work, 'mounted'));
  } finally {
    native.umount(join(work, 'mounted'), 0);
  }
}

it('show what the whole layers show, and go with their image', async () => {
  const directories = await pull();
  for (const [i, directory] of directories.entries())
    expect(await dumpTree(directory)).toEqual(await dumpWhole(i));
  expect(readFileSync('/proc/self/mountinfo', 'utf8').split(' erofs ').length).toBe(4);
  await removeAll();
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(' erofs ');
});

it('are read on while the daemon is killed and started again', async () => {
  const [, , directory] = await pull();
  const file = join(directory ?? '', 'noise');
  link.held = true;
  const sums = Promise.all([sumOf(file), sumOf(file)]);
  await until('a read to wait', () => thaw.events().some(({ msg }) => msg === 'fetch started'));
  await thaw.kill();
  await thaw.restart();
  link.held = false;
  link.rate = Number.POSITIVE_INFINITY;
  expect(await sums).toEqual([sha256(noise), sha256(noise)]);
  await thaw.upgrade();
  expect(await sumOf(file)).toBe(sha256(noise));
});

it('give an error and the name of the file, never other bytes, when the registry is gone or sends wrong ones', async () => {
  const [, , directory] = await pull();
  link.spoil = Number.POSITIVE_INFINITY;
  const file = join(directory ?? '', 'noise');
  await expect(sumOf(file)).rejects.toThrow('Input/output error');
  link.spoil = 0;
  link.held = true;
  await expect(sumOf(file)).rejects.toThrow('Input/output error');
  const failures = thaw.events().filter(({ msg }) => msg === 'read failed');
  expect(failures.map(({ file: named }) => named)).toContain('noise');
  link.held = false;
  link.rate = Number.POSITIVE_INFINITY;
  await until('the rest to come', async () => (await sumOf(file).catch(() => '')) === sha256(noise), 30_000);
});
