/** Folders of a real Debian as lazy layers, against what tar unpacks: whole trees, and many readers at once. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { mountAll, unmount } from './conformance/mount.ts';
import { SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { dumpTree } from './lib/dump-tree.ts';
import {
  assertNothingLeft,
  type Blob,
  blob,
  image,
  type Leftovers,
  privateDir,
  push,
  Registry,
  takeStock,
} from './lib/index.ts';
import { convertLazily, pullLazily, readLazyImage } from './lib/odd-layers.ts';
import { SlowLink } from './lib/slow-link.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const REPOSITORY = 'test/debian';
const python = readdirSync('/usr/lib').find((name) => /^python3\.\d+$/.test(name)) ?? '';

/** Parents that every layer has an entry for, and what each has below them. */
const SHAPES = [
  // Thousands of small files, owners and modes.
  { parents: ['etc', 'var', 'var/lib'], below: ['etc', 'var/lib/dpkg'] },
  // Code and shared objects.
  { parents: ['usr', 'usr/lib'], below: [`usr/lib/${python}`] },
  // Links of both kinds, and larger programs, some of them setuid.
  { parents: ['usr', 'usr/share'], below: ['usr/share/perl5', 'usr/sbin'] },
];
/** Too large for a test, and of no other shape. */
const LEFT_OUT = ['docker-registry', 'criu', 'runc', '*.so.*.debug'];

function tarLayer({ parents, below }: (typeof SHAPES)[number]): Blob {
  const left = LEFT_OUT.map((name) => `--exclude=${name}`);
  const options = ['--format=posix', '--numeric-owner', '--xattrs', '--sort=name', ...left];
  const args = ['-C', '/', ...options, '-cf', '-', '--no-recursion', ...parents, '--recursion', ...below];
  return blob(LAYER, execFileSync('tar', args, { maxBuffer: 1 << 30 }));
}

let before: Leftovers;
let registry: Registry;
let link: SlowLink;
let thaw: ThawDaemon;
let snapshots: SnapshotsClient;
let dir: string;
let lazyRoot: string;
let plainRoot: string;

beforeAll(async () => {
  before = takeStock();
  registry = await Registry.start();
  link = await SlowLink.start(registry.host);
  dir = privateDir('trees');
  const layers = SHAPES.map(tarLayer);
  plainRoot = join(dir, 'plain');
  mkdirSync(plainRoot);
  const unpack = [
    '-C',
    plainRoot,
    '--numeric-owner',
    '--xattrs',
    '--xattrs-include=*',
    '--delay-directory-restore',
    '-xpf',
    '-',
  ];
  for (const { bytes } of layers) execFileSync('tar', unpack, { input: bytes });
  const source = await push(registry.host, REPOSITORY, 'plain', image(layers, { cmd: ['sh'] }));
  await convertLazily(source, `${registry.host}/${REPOSITORY}:lazy`, dir);
  const lazy = await readLazyImage(registry.host, REPOSITORY, 'lazy');
  thaw = await ThawDaemon.start();
  snapshots = new SnapshotsClient(thaw.socket);
  link.rate = 4_000_000;
  const chains = await pullLazily(snapshots, lazy, `${link.host}/${REPOSITORY}:lazy`);
  lazyRoot = join(dir, 'lazy');
  mountAll(await snapshots.prepare('container', chains.at(-1) ?? ''), lazyRoot);
}, 180_000);
afterAll(async () => {
  unmount(lazyRoot);
  for (let left = await snapshots.list(); left.length > 0; left = await snapshots.list()) {
    const parents = new Set(left.map(({ parent }) => parent));
    for (const { name } of left) if (!parents.has(name)) await snapshots.remove(name);
  }
  snapshots.close();
  await thaw.stop();
  await link.cut();
  await registry.stop();
  rmSync(dir, { recursive: true });
  await assertNothingLeft(before);
});

/** Sums of all files, in one order or another; each reader is a process. */
async function sumsOf(root: string, readers: number): Promise<string[]> {
  const command = `find . -xdev -type f -print0 | shuf -z | xargs -0 -P ${readers} -n 64 sha256sum`;
  const options = { cwd: root, maxBuffer: 64 << 20, timeout: 120_000 };
  const { stdout } = await promisify(execFile)('sh', ['-c', command], options);
  return stdout.split('\n').sort();
}

it('show many readers the right bytes while these come', async () => {
  const [first, second] = await Promise.all([sumsOf(lazyRoot, 4), sumsOf(lazyRoot, 4)]);
  expect(first.length).toBeGreaterThan(1000);
  const plain = await sumsOf(plainRoot, 2);
  expect(first).toEqual(plain);
  expect(second).toEqual(plain);
});

it('are the tree that tar unpacks, bit for bit', async () => {
  expect(await dumpTree(lazyRoot)).toEqual(await dumpTree(plainRoot));
});
