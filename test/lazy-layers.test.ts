/** Lazy layers on a thaw node, read while their bytes come, and while daemon and registry go. */
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { chainIds } from '../checkpoint/chain-id.ts';
import { layerMetadata } from '../checkpoint/lazy/layer-index.ts';
import { FRAME_BYTES } from '../checkpoint/lazy/write-frames.ts';
import { formatReadOrder } from '../cli/convert-lazy/read-order.ts';
import { native } from '../native/index.ts';
import { thaw as protocol } from '../proto/gen/thaw.js';
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
  NOISE_BYTES,
  noise,
  noiseLayer,
  oddLayer,
  pullLazily,
  readLazyImage,
  topLayer,
} from './lib/odd-layers.ts';
import { SlowLink } from './lib/slow-link.ts';
import { accepts } from './lib/snapshotter.ts';

const MS_RDONLY = 1;
const MNT_DETACH = 2;
const COMPLETE = protocol.v1.CheckpointStatus.State.STATE_COMPLETE;
const SLOW = 200_000;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
/** In another process: a read that waits must not hold up this one. */
const sumOf = async (path: string) =>
  (await promisify(execFile)('sha256sum', [path], { timeout: 60_000 })).stdout.split(' ')[0];

let before: Leftovers;
let registry: Registry;
let link: SlowLink;
let thaw: ThawDaemon;
let source: string;
let lazy: LazyImage;
let workDir: string;

beforeAll(async () => {
  registry = await Registry.start();
  workDir = privateDir('convert');
  const layers = [oddLayer(), topLayer(), noiseLayer()];
  source = await push(registry.host, 'test/odd', 'plain', image(layers, { cmd: ['sh'] }));
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
  thaw = await ThawDaemon.start();
});
afterEach(async () => {
  link.held = false;
  await removeAll();
  await thaw.stop();
  await link.cut();
  await assertNothingLeft(before);
});

const chains = (image = lazy) =>
  chainIds([image.indexLayer.digest, ...image.layers.map(({ index }) => index.diffId)]);

async function withSnapshots<T>(work: (snapshots: SnapshotsClient) => Promise<T>): Promise<T> {
  const snapshots = new SnapshotsClient(thaw.socket);
  try {
    return await work(snapshots);
  } finally {
    snapshots.close();
  }
}

/** What containerd asks for when it pulls the image. Answers the directory of each lazy layer, bottom first. */
const pull = (image = lazy) =>
  withSnapshots(async (snapshots) => {
    const chain = (await pullLazily(snapshots, image, `${link.host}/test/odd:lazy`)).at(-1) ?? '';
    const [mount] = await snapshots.view('probe', chain);
    await snapshots.remove('probe');
    const lower = mount?.options.find((option) => option.startsWith('lowerdir=')) ?? '';
    const directories = lower.slice('lowerdir='.length).split(':').reverse();
    expect(directories.length).toBe(4);
    return directories.slice(1);
  });

const removeAll = (image = lazy) =>
  withSnapshots(async (snapshots) => {
    for (const chain of chains(image).reverse()) await snapshots.remove(chain).catch(() => {});
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

const erofsMounts = () => readFileSync('/proc/self/mountinfo', 'utf8').split(' erofs ').length - 1;
const allHere = (count = 3) =>
  until(
    'every byte to be here',
    async () => {
      const layers = await thaw.layers();
      return layers.length === count && layers.every(({ state }) => state === COMPLETE);
    },
    30_000,
  );

it('show what the whole layers show, and go with their image', async () => {
  const directories = await pull();
  for (const [i, directory] of directories.entries())
    expect(await dumpTree(directory)).toEqual(await dumpWhole(i));
  await removeAll();
  expect(erofsMounts()).toBe(0);
  await until('their bytes to go', async () => (await thaw.layers()).length === 0);
});

it('are left to containerd where the cache has no room for them', async () => {
  await thaw.stop();
  thaw = await ThawDaemon.start({ cache: { max_bytes: NOISE_BYTES } });
  await expect(pull()).rejects.toThrow('layer 3 of');
  // What containerd would unpack it into.
  await withSnapshots((snapshots) => snapshots.remove(`k8s.io/3/extract ${chains()[3]}`));
});

it('are mounted from loop devices, as on kernels that mount EROFS from nothing else', async () => {
  await thaw.stop();
  thaw = await ThawDaemon.start({ layers: { mounts: 'loop' } });
  const directories = await pull();
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).toMatch(/ erofs \/dev\/loop\d+ /);
  for (const [i, directory] of directories.entries())
    expect(await dumpTree(directory)).toEqual(await dumpWhole(i));
});

it('are read on while the daemon is killed, started again and upgraded', async () => {
  const [, , directory] = await pull();
  const file = join(directory ?? '', 'noise');
  link.held = true;
  const sums = Promise.all([sumOf(file), sumOf(file)]);
  const waiting = () =>
    until('a read to wait', async () => (await thaw.layers()).some((layer) => (layer.wantedChunks ?? 0) > 0));
  await waiting();
  await thaw.kill();
  // One that no daemon has taken from the kernel yet, of what nobody has read.
  const begun = spawn('dd', [`if=${file}`, 'bs=4096', 'skip=5000', 'count=1', 'status=none']);
  const piece = new Promise<Buffer>((resolve) => {
    const read: Buffer[] = [];
    begun.stdout.on('data', (bytes: Buffer) => read.push(bytes));
    begun.once('close', () => resolve(Buffer.concat(read)));
  });
  await until('it to wait too', () => /\) D /.test(readFileSync(`/proc/${begun.pid}/stat`, 'utf8')));
  await thaw.restart();
  // The kernel has sent the others again.
  await waiting();
  await thaw.upgrade();
  await waiting();
  link.held = false;
  link.rate = Number.POSITIVE_INFINITY;
  expect(await sums).toEqual([sha256(noise), sha256(noise)]);
  expect((await piece).equals(noise.subarray(5000 * 4096, 5001 * 4096))).toBe(true);
});

it('give an error and the name of the file, never other bytes, when the registry is gone or sends wrong ones', async () => {
  await thaw.stop();
  thaw = await ThawDaemon.start({ fetch: { read_timeout_ms: 3000 } });
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

it('are mounted again before anybody is answered after a reboot, and need no registry when all of them is here', async () => {
  const directories = await pull();
  link.rate = Number.POSITIVE_INFINITY;
  await allHere();
  await until('what vouches for them to be on the disk', () => everyEntryIsMarked(), 30_000);
  await thaw.kill();
  // What a boot takes away: mounts, processes, and the tmpfs with the record of the holder.
  const record = join(thaw.state, 'layers.json');
  process.kill((JSON.parse(readFileSync(record, 'utf8')) as { pid: number }).pid, 'SIGKILL');
  for (const directory of [...directories, ...directories, join(thaw.root, 'layers')])
    try {
      native.umount(directory, MNT_DETACH);
    } catch {
      // There was one mount only.
    }
  expect(erofsMounts()).toBe(0);
  rmSync(record);
  await link.cut();
  let atFirstAnswer = -1;
  const watching = until('somebody to answer', async () => {
    if (!(await accepts(thaw.socket))) return false;
    atFirstAnswer = erofsMounts();
    return true;
  });
  await thaw.restart();
  await watching;
  expect(atFirstAnswer).toBe(3);
  for (const [i, directory] of directories.entries())
    expect(await dumpTree(directory)).toEqual(await dumpWhole(i));
});

function everyEntryIsMarked(): boolean {
  const cache = join(thaw.root, 'cache');
  return readdirSync(cache).every((entry) => existsSync(join(cache, entry, 'complete')));
}

it('are read by the kernel alone by who starts when all of them is here, and by who started before as ever', async () => {
  const [, , directory] = await pull();
  const file = join(directory ?? '', 'noise');
  const early = openSync(file, 'r');
  try {
    link.rate = Number.POSITIVE_INFINITY;
    await allHere();
    await until('the mounts to be there', () => erofsMounts() === 6);
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    // Whoever needs the daemon would wait for it.
    await thaw.kill();
    expect(await sumOf(file)).toBe(sha256(noise));
    await thaw.restart();
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    expect(await sumOf(`/proc/${process.pid}/fd/${early}`)).toBe(sha256(noise));
  } finally {
    closeSync(early);
  }
  await removeAll();
  expect(erofsMounts()).toBe(0);
});

it('go while somebody reads them, who reads on', async () => {
  const [, , directory] = await pull();
  const early = openSync(join(directory ?? '', 'noise'), 'r');
  try {
    link.rate = Number.POSITIVE_INFINITY;
    await allHere();
    await removeAll();
    expect(erofsMounts()).toBe(0);
    expect(await sumOf(`/proc/${process.pid}/fd/${early}`)).toBe(sha256(noise));
  } finally {
    closeSync(early);
  }
});

it('are noted in the order in which they are read, while that is asked for', async () => {
  const [, , directory] = await pull();
  const file = join(directory ?? '', 'noise');
  link.rate = Number.POSITIVE_INFINITY;
  expect(await sumOf(file)).toBe(sha256(noise));
  await thaw.recordReads();
  await expect(thaw.recordReads()).rejects.toThrow('being recorded already');
  const fd = openSync(file, 'r');
  try {
    const piece = Buffer.alloc(4096);
    for (const mebibyte of [20, 3, 11]) {
      readSync(fd, piece, 0, piece.length, mebibyte << 20);
      expect(piece.equals(noise.subarray(mebibyte << 20, (mebibyte << 20) + piece.length))).toBe(true);
    }
  } finally {
    closeSync(fd);
  }
  const [reads, ...others] = (await thaw.endReads()).filter(({ frames }) => (frames ?? []).length > 0);
  expect(others).toEqual([]);
  const frames: number[] = reads?.frames ?? [];
  const at = [20, 3, 11].map((mebibyte) => frames.indexOf((((mebibyte << 20) + 512) / FRAME_BYTES) | 0));
  expect(at.every((place) => place >= 0)).toBe(true);
  expect(at).toEqual(at.toSorted((a, b) => a - b));
  // The kernel reads ahead, but not everything.
  expect(frames.length).toBeLessThan(noise.length / FRAME_BYTES / 2);
  expect(await thaw.endReads()).toEqual([]);
  expect(await sumOf(file)).toBe(sha256(noise));

  const order = join(workDir, 'order.json');
  writeFileSync(order, formatReadOrder([{ diffId: reads?.diffId ?? '', frames: [...frames, 1 << 20] }]));
  await convertLazily(source, `${registry.host}/test/odd:ordered`, workDir, order);
  const ordered = await readLazyImage(registry.host, 'test/odd', 'ordered');
  expect(ordered.layers.map(({ index }) => index.accessOrder)).toEqual([[], [], frames]);

  // Another layer, by its index, of the same frames: they are here.
  await allHere();
  const sent = link.sent;
  const [, , same] = await pull(ordered);
  await allHere(4);
  expect(link.sent - sent).toBeLessThan(NOISE_BYTES / 20);
  expect(await sumOf(join(same ?? '', 'noise'))).toBe(sha256(noise));
  await removeAll(ordered);
});
