import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { chainIds } from '../../checkpoint/chain-id.ts';
import { DATA_START, dataFileName, dataLayerTail } from '../../checkpoint/layer-layout.ts';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { Calm, DirectTransfers, Limiter, NodeCache } from '../cache/index.ts';
import { notFound } from '../error.ts';
import { FakeSource, fakeCheckpoint, fakeDigest } from '../fake-checkpoint.test-helper.ts';
import { Directories, OverlaySnapshotter } from '../overlay/index.ts';
import { RemoteLayers } from '../remote/index.ts';
import { SnapshotStore } from '../store/index.ts';
import { writeStoredChunk } from '../write-chunk.test-helper.ts';
import type { LayersOfContainer } from './containerd.ts';
import { type LocateOptions, locate } from './locate.ts';

const checkpoint = fakeCheckpoint([
  [{ name: 'pages-1.img', size: 512, chunks: [{ at: 0, bytes: Buffer.alloc(512, 7) }] }],
  [{ name: 'pages-2.img', size: 1024, chunks: [{ at: 512, bytes: Buffer.alloc(512, 9) }] }],
]);
const digests = [...checkpoint.blobs.keys()];
const above = [fakeDigest('base'), fakeDigest('base2'), fakeDigest('diff')];
const chains = chainIds([...digests, ...above]);
const never = new AbortController().signal;

let dir: string;
let store: SnapshotStore;
let snapshotter: OverlaySnapshotter;
let cache: NodeCache;
let remote: RemoteLayers;
let containerd: LayersOfContainer;
let options: LocateOptions;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-locate-'));
  mkdirSync(join(dir, 'snapshots'));
  store = new SnapshotStore(join(dir, 'meta.db'));
  let now = 1n;
  snapshotter = new OverlaySnapshotter({
    store,
    directories: new Directories(join(dir, 'snapshots'), native),
    mountOptions: [],
    now: () => now++,
    events: { onNotDeleted: () => {}, onRemade: () => {}, onNotRemade: () => {}, onLost: () => {} },
  });
  cache = new NodeCache({
    directory: join(dir, 'cache'),
    tryLock: () => true,
    maxBytes: undefined,
    now: () => 0,
    reopen: (id) => remote.sourceOf(id),
    entry: {
      transfers: new DirectTransfers(writeStoredChunk),
      limiter: new Limiter(2),
      soonLimiter: new Limiter(2),
      calm: new Calm({ ms: 0, atMostMs: 0, clock: () => 0 }),
      parallel: 2,
      clock: () => 0,
      bootId: 'this boot',
    },
    events: {
      onStarted: () => {},
      onBytes() {},
      onComplete: () => {},
      onFailed: () => {},
      onSyncFailed: () => {},
      onDisplaced: () => {},
      onEvicted() {},
      onDiscarded: () => {},
    },
  });
  remote = new RemoteLayers({
    snapshotter,
    cache,
    openSource: () => new FakeSource(checkpoint.blobs),
    indexTimeoutMs: 5_000,
    mountLayer: async () => {},
    log: pino({ level: 'silent' }),
  });
  containerd = async () => {
    throw notFound('containerd must not be asked');
  };
  options = {
    snapshotter,
    remote,
    cache,
    openBeneath: (directory, path, flags) => openSync(join(directory, path), flags),
    layersOfContainer: (...args) => containerd(...args),
  };
});
afterEach(async () => {
  await cache.close();
  await snapshotter.settle();
  store.close();
  rmSync(dir, { recursive: true });
});

const find = (lowerDirs: readonly string[]) =>
  locate(options, { namespace: 'k8s.io', containerId: 'c', lowerDirs });
const commit = async (name: string, parent: string) => {
  await snapshotter.create('active', `key of ${name}`, parent, {});
  return snapshotter.commit(name, `key of ${name}`, {});
};

describe('on our own snapshots', () => {
  let lowerDirs: string[];
  const lowerDirsOf = (name: string) =>
    [store.get(name), ...store.ancestors(name)].map(({ directory }) =>
      snapshotter.directories.fs(directory.id),
    );

  beforeEach(async () => {
    for (const i of [0, 1, 2])
      await remote.provide(
        i === 0 ? '' : (chains[i - 1] ?? ''),
        {
          'containerd.io/snapshot.ref': chains[i] ?? '',
          'containerd.io/snapshot/thaw.index': checkpoint.annotation,
          'containerd.io/snapshot/cri.image-ref': 'r.example/app:1',
          'containerd.io/snapshot/cri.layer-digest': digests[i] ?? '',
        },
        never,
      );
    let parent = chains[2] ?? '';
    for (const chain of chains.slice(3)) parent = (await commit(`k8s.io/9/${chain}`, parent)).name;
    lowerDirs = lowerDirsOf(parent);
  });

  test('a checkpoint is found by its empty lower directories, and comes', async () => {
    const entry = await find(lowerDirs);
    expect(entry.id).toBe(checkpoint.id);
    await cache.wait(entry.id, never);
  });

  test('an image with a layer on top, or none of the base, is refused', async () => {
    const more = await commit(`k8s.io/9/${fakeDigest('more')}`, `k8s.io/9/${chains[5]}`);
    await expect(find(lowerDirsOf(more.name))).rejects.toMatchObject({
      code: Code.failedPrecondition,
      message: expect.stringContaining('layers above'),
    });
    const other = await commit(`k8s.io/9/${fakeDigest('other')}`, chains[2] ?? '');
    await expect(find(lowerDirsOf(other.name))).rejects.toMatchObject({
      code: Code.failedPrecondition,
      message: expect.stringContaining('base image differs'),
    });
  });

  test('an ordinary image has none', async () => {
    const plain = await commit(`k8s.io/9/${fakeDigest('plain')}`, '');
    await expect(find(lowerDirsOf(plain.name))).rejects.toMatchObject({ code: Code.notFound });
  });
});

describe('on directories of another snapshotter', () => {
  let lowerDirs: string[];

  beforeEach(() => {
    const [index, ...data] = [0, 1, 2].map((i) => join(dir, `other/${i}`));
    for (const layer of [index ?? '', ...data]) mkdirSync(join(layer, '.thaw'), { recursive: true });
    writeFileSync(join(index ?? '', '.thaw/index'), checkpoint.indexBytes);
    writeFileSync(join(index ?? '', '.thaw/checkpoint.json'), checkpoint.checkpointJson);
    for (const [i, path] of data.entries()) {
      const blob = checkpoint.blobs.get(digests[i + 1] ?? '') ?? Buffer.alloc(0);
      writeFileSync(
        join(path, '.thaw', dataFileName(i)),
        blob.subarray(DATA_START, blob.length - dataLayerTail(512)),
      );
    }
    lowerDirs = ['/upper/3', '/upper/2', '/upper/1', ...data.reverse(), index ?? ''];
    containerd = async () => chains;
  });

  test('a checkpoint is decoded from its unpacked files, with no registry', async () => {
    const entry = await find(lowerDirs);
    await cache.wait(entry.id, never);
    for (const [name, content] of checkpoint.contents)
      expect(readFileSync(join(entry.imagesDirectory, name)).equals(content)).toBe(true);
    expect(entry.progress).toMatchObject({ fetchedBytes: 0n, localBytes: 1024n });
  });

  test('layers that containerd knows under other chain IDs are refused', async () => {
    containerd = async () => chainIds([...digests, fakeDigest('base'), fakeDigest('x'), fakeDigest('diff')]);
    await expect(find(lowerDirs)).rejects.toMatchObject({
      code: Code.failedPrecondition,
      message: expect.stringContaining('base image differs'),
    });
    expect(cache.entries()).toEqual([]);
  });

  test('an index that was changed on disk does not fit the chain', async () => {
    const changed = fakeCheckpoint([
      [{ name: 'pages-1.img', size: 512, chunks: [{ at: 0, bytes: Buffer.alloc(512, 8) }] }],
      [{ name: 'pages-2.img', size: 1024, chunks: [{ at: 512, bytes: Buffer.alloc(512, 9) }] }],
    ]);
    writeFileSync(join(lowerDirs.at(-1) ?? '', '.thaw/index'), changed.indexBytes);
    await expect(find(lowerDirs)).rejects.toMatchObject({
      code: Code.failedPrecondition,
      message: expect.stringContaining('checkpoint layer 1 of 3'),
    });
  });

  test('a changed, cut or missing chunk file fails the wait, never the content', async () => {
    const file = join(lowerDirs[3] ?? '', '.thaw/chunks-000001');
    for (const damage of [
      () => writeFileSync(file, Buffer.alloc(512, 1)),
      () => writeFileSync(file, Buffer.alloc(100, 9)),
      () => rmSync(file),
    ]) {
      damage();
      const entry = await find(lowerDirs);
      await expect(entry.wait(never)).rejects.toMatchObject({ code: expect.any(Number) });
      expect(entry.state.kind).toBe('failed');
      await cache.evict(entry.id);
    }
  });

  test('links are not followed', async () => {
    const path = join(lowerDirs.at(-1) ?? '', '.thaw/checkpoint.json');
    rmSync(path);
    writeFileSync(join(dir, 'elsewhere'), checkpoint.checkpointJson);
    symlinkSync(join(dir, 'elsewhere'), path);
    await expect(find(lowerDirs)).rejects.toThrow(/ELOOP/);
  });

  test('directories without a checkpoint have none', async () => {
    await expect(find(['/nonexistent/a', '/nonexistent/b'])).rejects.toMatchObject({ code: Code.notFound });
    await expect(find([])).rejects.toMatchObject({ code: Code.invalidArgument });
    await expect(find(['relative'])).rejects.toMatchObject({ code: Code.invalidArgument });
  });
});
