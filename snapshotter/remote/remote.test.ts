import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { chainIds } from '../../checkpoint/chain-id.ts';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { Calm, DirectTransfers, Limiter, NodeCache } from '../cache/index.ts';
import { notFound } from '../error.ts';
import { FakeSource, fakeCheckpoint, fakeDigest } from '../fake-checkpoint.test-helper.ts';
import { Directories, OverlaySnapshotter } from '../overlay/index.ts';
import { SnapshotStore } from '../store/index.ts';
import { writeStoredChunk } from '../write-chunk.test-helper.ts';
import { RemoteLayers } from './index.ts';
import { checkpointLayerLabels } from './labels.ts';
import { layerPosition } from './layer-position.ts';

const checkpoint = fakeCheckpoint([
  [{ name: 'pages-1.img', size: 10, chunks: [{ at: 0, bytes: Buffer.from('0123456789') }] }],
  [{ name: 'pages-2.img', size: 3, chunks: [{ at: 0, bytes: Buffer.from('abc') }] }],
]);
const digests = [...checkpoint.blobs.keys()];
const chains = chainIds(digests);
const never = new AbortController().signal;

let dir: string;
let store: SnapshotStore;
let snapshotter: OverlaySnapshotter;
let cache: NodeCache;
let remote: RemoteLayers;
let source: FakeSource;
let now = 1n;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-remote-'));
  mkdirSync(join(dir, 'snapshots'));
  store = new SnapshotStore(join(dir, 'meta.db'));
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
  source = new FakeSource(checkpoint.blobs);
  remote = new RemoteLayers({
    snapshotter,
    cache,
    openSource: () => source,
    indexTimeoutMs: 5_000,
    mountLayer: async () => {},
    log: pino({ level: 'silent' }),
  });
});
afterEach(async () => {
  await cache.close();
  await snapshotter.settle();
  store.close();
  rmSync(dir, { recursive: true });
});

function labelsOf(layer: number, over: Record<string, string> = {}): Record<string, string> {
  return {
    'containerd.io/snapshot.ref': chains[layer] ?? '',
    'containerd.io/snapshot/thaw.index': checkpoint.annotation,
    'containerd.io/snapshot/cri.image-ref': 'r.example/app:1',
    'containerd.io/snapshot/cri.layer-digest': digests[layer] ?? '',
    ...over,
  };
}
const provide = (layer: number, over: Record<string, string> = {}) =>
  remote.provide(layer === 0 ? '' : (chains[layer - 1] ?? ''), labelsOf(layer, over), never);

describe('a checkpoint layer', () => {
  test('is committed under the name that containerd looks for, with labels and parent', async () => {
    for (const layer of [0, 1, 2]) expect(await provide(layer)).toBe(true);
    for (const layer of [0, 1, 2])
      expect(store.get(chains[layer] ?? '')).toMatchObject({
        kind: 'committed',
        parent: layer === 0 ? '' : chains[layer - 1],
        labels: labelsOf(layer),
        directory: { checkpoint: checkpoint.id },
      });
    const [index] = store.withCheckpoint(checkpoint.id);
    const fs = snapshotter.directories.fs(index?.directory.id ?? 0);
    expect(readFileSync(join(fs, '../checkpoint.json')).equals(checkpoint.checkpointJson)).toBe(true);
    expect(source.reads[0]).toMatchObject({ digest: digests[0], offset: 0 });
  });

  test('starts to stream with the first of them', async () => {
    await provide(0);
    const entry = await cache.wait(checkpoint.id, never);
    for (const [name, content] of checkpoint.contents)
      expect(readFileSync(join(entry.imagesDirectory, name)).equals(content)).toBe(true);
  });

  test('is ready again for a second pull, without asking the registry', async () => {
    await provide(0);
    await cache.wait(checkpoint.id, never);
    const reads = source.reads.length;
    expect(await provide(0)).toBe(true);
    expect(source.reads.length).toBe(reads);
  });

  test('is left to containerd if the index cannot be had', async () => {
    source.tamper = () => {
      throw notFound('Cannot read the blob: registry answered 404');
    };
    expect(await provide(0)).toBe(false);
    expect(store.find(chains[0] ?? '')).toBeUndefined();
  });

  test('is left to containerd if the index is not the one named', async () => {
    source.tamper = (bytes) => {
      bytes.writeUInt8(bytes.readUInt8(checkpoint.location.offset) ^ 1, checkpoint.location.offset);
      return bytes;
    };
    expect(await provide(0)).toBe(false);
    expect(cache.entries()).toEqual([]);
  });

  test('is left to containerd if the registry does not answer in time', async () => {
    remote = new RemoteLayers({
      snapshotter,
      cache,
      openSource: () => source,
      indexTimeoutMs: 50,
      mountLayer: async () => {},
      log: pino({ level: 'silent' }),
    });
    source.tamper = (bytes) => new Promise((resolve) => setTimeout(() => resolve(bytes), 200));
    expect(await provide(0)).toBe(false);
  });

  test('is left to containerd if it is not in its place', async () => {
    await provide(0);
    // The second data layer directly on the index layer.
    const target = chainIds([digests[0] ?? '', digests[2] ?? ''])[1] ?? '';
    const labels = labelsOf(2, { 'containerd.io/snapshot.ref': target });
    expect(await remote.provide(chains[0] ?? '', labels, never)).toBe(false);
    // A digest that does not lead to the target.
    expect(await provide(1, { 'containerd.io/snapshot/cri.layer-digest': fakeDigest('x') })).toBe(false);
  });

  test('is left to containerd above an index layer that was unpacked as files', async () => {
    await snapshotter.create('active', 'key', '', {});
    await snapshotter.commit(`ns/1/${chains[0]}`, 'key', {});
    expect(await remote.provide(`ns/1/${chains[0]}`, labelsOf(1), never)).toBe(false);
  });

  test('can be opened again after its cache entry went', async () => {
    await provide(0);
    await cache.wait(checkpoint.id, never);
    await cache.evict(checkpoint.id);
    source.tamper = (bytes, { digest }) => {
      if (digest === digests[0]) throw notFound('the index must not be needed');
      return bytes;
    };
    await remote.open(checkpoint.id);
    await cache.wait(checkpoint.id, never);
    await expect(remote.open(fakeDigest('other'))).rejects.toMatchObject({ code: Code.notFound });
  });

  test('has an empty directory that mounts leave as a lower one', async () => {
    for (const layer of [0, 1, 2]) await provide(layer);
    const [mount] = await snapshotter.create('active', 'above', chains[2] ?? '', {});
    const lower = mount?.options.find((option) => option.startsWith('lowerdir=')) ?? '';
    expect(lower.split(':')).toHaveLength(3);
  });
});

describe('an ordinary layer', () => {
  const commit = async (name: string, parent: string) => {
    await snapshotter.create('active', `key of ${name}`, parent, {});
    return snapshotter.commit(name, `key of ${name}`, {});
  };
  const base = [fakeDigest('base'), fakeDigest('base2')];
  const baseChains = chainIds(base);
  const newChains = chainIds([...digests, ...base]);
  const target = (i: number) => ({ 'containerd.io/snapshot.ref': newChains[digests.length + i] ?? '' });

  test('that is here under the base image alone is shared above the checkpoint', async () => {
    const first = await commit(`k8s.io/1/${baseChains[0]}`, '');
    const second = await commit(`k8s.io/2/${baseChains[1]}`, first.name);
    for (const layer of [0, 1, 2]) await provide(layer);
    expect(await remote.provide(chains[2] ?? '', target(0), never)).toBe(true);
    expect(await remote.provide(newChains[3] ?? '', target(1), never)).toBe(true);
    expect(store.get(newChains[4] ?? '')).toMatchObject({
      parent: newChains[3],
      directory: { id: second.directory.id, diffId: base[1] },
      labels: target(1),
    });
    // The directory lives as long as one of them.
    await snapshotter.remove(second.name);
    await snapshotter.settle();
    expect(existsSync(snapshotter.directories.fs(second.directory.id))).toBe(true);
  });

  test('is not shared above other layers than it was unpacked on', async () => {
    const first = await commit(`k8s.io/1/${baseChains[0]}`, '');
    await commit(`k8s.io/2/${baseChains[1]}`, first.name);
    for (const layer of [0, 1, 2]) await provide(layer);
    // The first base layer was unpacked anew, into another directory.
    await commit(`k8s.io/3/${newChains[3]}`, chains[2] ?? '');
    expect(await remote.provide(`k8s.io/3/${newChains[3]}`, target(1), never)).toBe(false);
  });

  test('is left to containerd if nothing is known of it', async () => {
    await commit(`k8s.io/1/${baseChains[0]}`, '');
    expect(await remote.provide('', { 'containerd.io/snapshot.ref': fakeDigest('x') }, never)).toBe(false);
    expect(await remote.provide('', {}, never)).toBe(false);
  });
});

test('labels say which one containerd did not give', () => {
  expect(checkpointLayerLabels({})).toBeUndefined();
  const labels = labelsOf(0);
  delete labels['containerd.io/snapshot/cri.image-ref'];
  expect(() => checkpointLayerLabels(labels)).toThrow(
    'containerd gave no containerd.io/snapshot/cri.image-ref; set disable_snapshot_annotations = false',
  );
  expect(() => checkpointLayerLabels(labelsOf(0, { 'containerd.io/snapshot/thaw.index': 'v2,x' }))).toThrow(
    expect.objectContaining({ code: Code.invalidArgument }),
  );
});

test('a layer has one place', () => {
  const { location } = checkpoint;
  const { dataLayers } = checkpoint.index;
  const position = (layer: number) =>
    layerPosition(
      { location, layerDigest: digests[layer] ?? '' },
      chains[layer] ?? '',
      layer === 0 ? undefined : chains[layer - 1],
      dataLayers,
    );
  expect([0, 1, 2].map(position)).toEqual([
    { kind: 'index' },
    { kind: 'data', ordinal: 0 },
    { kind: 'data', ordinal: 1 },
  ]);
});
