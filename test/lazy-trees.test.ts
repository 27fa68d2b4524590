/** Folders of a real Debian as lazy layers, against what tar unpacks: whole trees, many readers at once, and what is written above. */
import { execFile, execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { native } from '../native/index.ts';
import type { Mount } from '../snapshotter/overlay/index.ts';
import { mountAll, unmount } from './conformance/mount.ts';
import { SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { dumpTree } from './lib/dump-tree.ts';
import { exercise } from './lib/exercise.ts';
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
  until,
} from './lib/index.ts';
import { convertLazily, type LazyImage, pullLazily, readLazyImage } from './lib/odd-layers.ts';
import { SlowLink } from './lib/slow-link.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const REPOSITORY = 'test/debian';
const python = readdirSync('/usr/lib').find((name) => /^python3\.\d+$/.test(name)) ?? '';

/** Bytes a second, of what nobody waits for. */
const RATE = 4_000_000;
/** Of the exerciser. */
const RUN = { seed: 8, steps: 3000 };

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

/** A node that has just pulled the image, and a container's root file system on it. */
class LazyRoot {
  readonly thaw: ThawDaemon;
  readonly mounts: readonly Mount[];
  readonly path: string;

  private constructor(thaw: ThawDaemon, mounts: readonly Mount[], path: string) {
    this.thaw = thaw;
    this.mounts = mounts;
    this.path = path;
    this.mount();
  }

  static async make(path: string): Promise<LazyRoot> {
    const thaw = await ThawDaemon.start();
    const snapshots = new SnapshotsClient(thaw.socket);
    try {
      const chains = await pullLazily(snapshots, lazy, `${link.host}/${REPOSITORY}:lazy`);
      return new LazyRoot(thaw, await snapshots.prepare('container', chains.at(-1) ?? ''), path);
    } finally {
      snapshots.close();
    }
  }

  option(name: string): string {
    const options = this.mounts.flatMap(({ options }) => options);
    return options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1) ?? '';
  }

  mount(): void {
    mountAll(this.mounts, this.path);
  }

  async remove(): Promise<void> {
    unmount(this.path);
    const snapshots = new SnapshotsClient(this.thaw.socket);
    for (let left = await snapshots.list(); left.length > 0; left = await snapshots.list()) {
      const parents = new Set(left.map(({ parent }) => parent));
      for (const { name } of left) if (!parents.has(name)) await snapshots.remove(name);
    }
    snapshots.close();
    await this.thaw.stop();
  }
}

let before: Leftovers;
let registry: Registry;
let link: SlowLink;
let dir: string;
let lazy: LazyImage;
let plainRoot: string;

beforeAll(async () => {
  before = takeStock();
  registry = await Registry.start();
  link = await SlowLink.start(registry.host);
  link.rate = RATE;
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
  lazy = await readLazyImage(registry.host, REPOSITORY, 'lazy');
}, 180_000);
afterAll(async () => {
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

it('are for many readers at once the tree that tar unpacks, bit for bit', async () => {
  const root = await LazyRoot.make(join(dir, 'read'));
  try {
    const [first, second] = await Promise.all([sumsOf(root.path, 4), sumsOf(root.path, 4)]);
    expect(first.length).toBeGreaterThan(1000);
    const plain = await sumsOf(plainRoot, 2);
    expect(first).toEqual(plain);
    expect(second).toEqual(plain);
    expect(await dumpTree(root.path)).toEqual(await dumpTree(plainRoot));
  } finally {
    await root.remove();
  }
});

/** Lines that only one of them has, a few. */
function differences(mine: readonly string[], theirs: readonly string[]): string[] {
  const [inMine, inTheirs] = [new Set(mine), new Set(theirs)];
  const added = mine.filter((line) => !inTheirs.has(line)).map((line) => `+ ${line}`);
  const missing = theirs.filter((line) => !inMine.has(line)).map((line) => `- ${line}`);
  return [...added, ...missing].slice(0, 20);
}

it('can be written above as any others, while they come and daemons go', async () => {
  // The clock of file times is some milliseconds behind.
  const began = Date.now() - 1000;
  const root = await LazyRoot.make(join(dir, 'lazy'));
  const model = join(dir, 'model');
  // Overlayfs again, so that what it refuses it refuses on both.
  const [upper, work] = [`${model}.upper`, `${model}.work`];
  for (const path of [upper, work]) mkdirSync(path);
  const named = ['lowerdir', 'upperdir', 'workdir'];
  const others = root.mounts[0]?.options.filter(
    (option) => !named.some((name) => option.startsWith(`${name}=`)),
  );
  const options = [`lowerdir=${plainRoot}`, `upperdir=${upper}`, `workdir=${work}`, ...(others ?? [])];
  const modelMounts: Mount[] = [{ type: 'overlay', source: 'overlay', options }];
  mountAll(modelMounts, model);
  try {
    const restarted = async () => {
      await until('something to be written', () => readdirSync(root.option('upperdir')).length > 0);
      await root.thaw.kill();
      await root.thaw.restart();
      await root.thaw.upgrade();
    };
    const [done] = await Promise.all([exercise(root.path, model, RUN), restarted()]);
    // None of them is refused always.
    expect(Object.entries(done).filter(([, times]) => times === 0)).toEqual([]);
    link.rate = Number.POSITIVE_INFINITY;
    const [mine, theirs] = await Promise.all([dumpTree(root.path, began), dumpTree(model, began)]);
    expect(differences(mine, theirs), `seed ${RUN.seed}`).toEqual([]);
    unmount(root.path);
    root.mount();
    expect(differences(await dumpTree(root.path, began), theirs), `seed ${RUN.seed}, mounted again`).toEqual(
      [],
    );
  } finally {
    link.rate = RATE;
    unmount(model);
    await root.remove();
  }
});

it('are busy while somebody reads them, who reads on when they are unmounted all the same', async () => {
  const root = await LazyRoot.make(join(dir, 'busy'));
  const name = `usr/lib/${python}/typing.py`;
  const fd = openSync(join(root.path, name), 'r');
  try {
    expect(() => native.umount(root.path, 0)).toThrow('EBUSY');
    unmount(root.path);
    const { stdout } = await promisify(execFile)('cat', [`/proc/${process.pid}/fd/${fd}`], {
      maxBuffer: 1 << 26,
    });
    expect(stdout).toBe(readFileSync(join(plainRoot, name), 'utf8'));
    root.mount();
  } finally {
    closeSync(fd);
    await root.remove();
  }
});
