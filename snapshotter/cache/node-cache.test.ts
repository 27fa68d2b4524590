import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { Code } from '../../proto/status.ts';
import { notFound } from '../error.ts';
import { type FakeCheckpoint, FakeSource, fakeCheckpoint } from '../fake-checkpoint.test-helper.ts';
import { writeStoredChunk } from '../write-chunk.test-helper.ts';
import {
  type BlobSource,
  type CacheEntry,
  Calm,
  DirectTransfers,
  Limiter,
  NodeCache,
  type WriteChunk,
} from './index.ts';

const random = seeded(3);
const checkpoint = fakeCheckpoint([
  [
    { name: 'inventory.img', size: 900, chunks: [{ at: 0, bytes: random.bytes(900) }] },
    {
      name: 'pages-1.img',
      size: 40_000,
      chunks: [
        { at: 0, bytes: random.bytes(4096) },
        { at: 12_288, bytes: random.bytes(8192) },
      ],
    },
  ],
  [{ name: 'pages-2.img', size: 4096, chunks: [{ at: 0, bytes: random.bytes(4096) }] }],
]);
const STORED = 900n + 4096n + 8192n + 4096n;
const never = new AbortController().signal;

let dir: string;
let clock: number;
let locked: boolean;
let log: string[];
let sources: BlobSource[];
let caches: NodeCache[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-cache-'));
  clock = 0;
  locked = false;
  log = [];
  sources = [];
  caches = [];
});
afterEach(async () => {
  for (const cache of caches) await cache.close();
  rmSync(dir, { recursive: true });
});

function makeCache(writeChunk: WriteChunk = writeStoredChunk): NodeCache {
  const cache = new NodeCache({
    directory: dir,
    tryLock: () => !locked,
    maxBytes: undefined,
    now: () => 0,
    reopen: () => sources.shift(),
    entry: {
      transfers: new DirectTransfers(writeChunk),
      limiter: new Limiter(3),
      soonLimiter: new Limiter(2),
      calm: new Calm({ ms: 0, atMostMs: 0, clock: () => 0 }),
      parallel: 3,
      clock: () => clock,
      bootId: 'this boot',
    },
    events: {
      onStarted: () => log.push('started'),
      onBytes() {},
      onComplete: () => log.push('complete'),
      onFailed: (_, __, error) => log.push(`failed: ${error.message}`),
      onSyncFailed: (_, error) => log.push(`sync failed: ${String(error)}`),
      onDisplaced: () => {},
      onEvicted() {},
      onDiscarded: (_, reason) => log.push(`discarded: ${reason}`),
    },
  });
  caches.push(cache);
  return cache;
}

const add = (cache: NodeCache, { id, indexBytes, checkpointJson }: FakeCheckpoint = checkpoint) =>
  cache.add(id, indexBytes, checkpointJson);

function expectContents(entry: CacheEntry): void {
  for (const [name, content] of checkpoint.contents)
    expect(readFileSync(join(entry.imagesDirectory, name)).equals(content), name).toBe(true);
}

async function synced(entry: CacheEntry): Promise<void> {
  if (entry.state.kind === 'complete') await entry.state.synced;
}

test('everything arrives, verified and sparse, and is counted', async () => {
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(new FakeSource(checkpoint.blobs));
  await cache.wait(checkpoint.id, never);
  expectContents(entry);
  expect(entry.progress).toEqual({
    storedBytes: STORED,
    presentBytes: STORED,
    fetchedBytes: STORED,
    localBytes: 0n,
    wantedChunks: 0,
  });
  expect(statSync(join(entry.imagesDirectory, 'pages-1.img')).mode & 0o777).toBe(0o600);
  await synced(entry);
  expect(readFileSync(join(entry.directory, 'complete'), 'utf8')).toBe(`${checkpoint.id}\n`);
  expect(log).toEqual(['started', 'complete']);
});

test('bytes from files on this node are counted apart', async () => {
  const entry = await add(makeCache());
  entry.start(new FakeSource(checkpoint.blobs, 'local'));
  await entry.wait(never);
  expect(entry.progress).toMatchObject({ fetchedBytes: 0n, localBytes: STORED });
});

test('adding at the same time gives one entry, starting twice one fetch', async () => {
  const cache = makeCache();
  const [a, b] = await Promise.all([add(cache), add(cache)]);
  expect(a).toBe(b);
  const source = new FakeSource(checkpoint.blobs);
  a.start(source);
  a.start(new FakeSource(checkpoint.blobs));
  await Promise.all([cache.wait(checkpoint.id, never), cache.wait(checkpoint.id, never)]);
  expect(log).toEqual(['started', 'complete']);
});

test('what is added again while it is evicted is there', async () => {
  const cache = makeCache();
  const first = await add(cache);
  first.start(new FakeSource(checkpoint.blobs));
  await cache.wait(checkpoint.id, never);
  await synced(first);
  const evicted = cache.evict(checkpoint.id);
  await expect.poll(() => cache.find(checkpoint.id), { interval: 1 }).toBeUndefined();
  const again = await add(cache);
  again.start(new FakeSource(checkpoint.blobs));
  await evicted;
  await cache.wait(checkpoint.id, never);
  expectContents(again);
  await synced(again);
  expect(readdirSync(again.directory)).toEqual(
    expect.arrayContaining(['checkpoint.json', 'complete', 'files', 'index', 'lock']),
  );
});

test('a chunk that arrives wrong once is fetched again alone', async () => {
  const source = new FakeSource(checkpoint.blobs);
  source.tamper = (bytes, _, count) => {
    if (count === 1) bytes.writeUInt8(bytes.readUInt8(950) ^ 1, 950);
    return bytes;
  };
  const entry = await add(makeCache());
  entry.start(source);
  await entry.wait(never);
  expectContents(entry);
  expect(source.reads.filter(({ length }) => length === 4096).length).toBeGreaterThan(0);
});

test('a chunk that stays wrong fails the fetch, and is never present', async () => {
  const source = new FakeSource(checkpoint.blobs);
  const wrong = checkpoint.index.dataLayers[1]?.digest;
  source.tamper = (bytes, { digest }) => (digest === wrong ? Buffer.alloc(bytes.length) : bytes);
  const entry = await add(makeCache());
  entry.start(source);
  await expect(entry.wait(never)).rejects.toMatchObject({
    code: Code.dataLoss,
    message:
      'Cannot use the checkpoint: a chunk of "pages-2.img" from a test is corrupt; push the image again',
  });
  expect(entry.state.kind).toBe('failed');
  expect(entry.progress.presentBytes).toBeLessThan(STORED);
  expect(existsSync(join(entry.directory, 'complete'))).toBe(false);
  expect(readFileSync(join(entry.imagesDirectory, 'pages-2.img')).equals(Buffer.alloc(4096))).toBe(true);
});

test('fewer bytes than asked for are an error, not zeros', async () => {
  const source = new FakeSource(checkpoint.blobs);
  source.tamper = (bytes) => bytes.subarray(0, bytes.length - 1);
  const entry = await add(makeCache());
  entry.start(source);
  await expect(entry.wait(never)).rejects.toMatchObject({ code: Code.dataLoss });
});

test('a later attempt fetches only what is missing', async () => {
  const broken = new FakeSource(checkpoint.blobs);
  const missing = checkpoint.index.dataLayers[1]?.digest;
  broken.tamper = async (bytes, { digest }) => {
    if (digest !== missing) return bytes;
    await new Promise((resolve) => setTimeout(resolve, 50));
    throw notFound('registry gone');
  };
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(broken);
  await expect(entry.wait(never)).rejects.toMatchObject({ code: Code.notFound });
  // Fresh failures are answered as they are.
  await expect(cache.wait(checkpoint.id, never)).rejects.toMatchObject({ code: Code.notFound });
  clock += 10_000;
  const again = new FakeSource(checkpoint.blobs);
  sources.push(again);
  await cache.wait(checkpoint.id, never);
  expect(again.reads.map(({ digest }) => digest)).toEqual([missing]);
  expectContents(entry);
});

test('a full disk is said, and nothing that was not written is present', async () => {
  let room = 1;
  const cache = makeCache(async (...args) => {
    if (room-- <= 0) throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
    await writeStoredChunk(...args);
  });
  const entry = await add(cache);
  entry.start(new FakeSource(checkpoint.blobs));
  await expect(entry.wait(never)).rejects.toMatchObject({
    code: Code.resourceExhausted,
    message: 'Cannot store the checkpoint: the disk of the node cache is full; free space there',
  });
  expect(entry.progress.presentBytes).toBeLessThan(STORED);
  room = 100;
  clock += 10_000;
  sources.push(new FakeSource(checkpoint.blobs));
  await cache.wait(checkpoint.id, never);
  expectContents(entry);
});

test('who waits can give up, and the fetch goes on', async () => {
  const source = new FakeSource(checkpoint.blobs);
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  source.tamper = async (bytes) => {
    await gate;
    return bytes;
  };
  const entry = await add(makeCache());
  entry.start(source);
  const patience = new AbortController();
  const waiting = entry.wait(patience.signal);
  patience.abort();
  await expect(waiting).rejects.toMatchObject({ code: Code.canceled });
  release();
  await entry.wait(never);
});

test('an index that is not the one named, or a foreign checkpoint.json, is refused', async () => {
  const cache = makeCache();
  const other = fakeCheckpoint([[{ name: 'x', size: 1, chunks: [{ at: 0, bytes: Buffer.from('x') }] }]]);
  await expect(cache.add(checkpoint.id, other.indexBytes, other.checkpointJson)).rejects.toMatchObject({
    code: Code.dataLoss,
  });
  await expect(cache.add(checkpoint.id, checkpoint.indexBytes, other.checkpointJson)).rejects.toMatchObject({
    code: Code.dataLoss,
  });
  expect(cache.entries()).toEqual([]);
});

test('a complete entry survives a restart and needs no source', async () => {
  const entry = await add(makeCache());
  entry.start(new FakeSource(checkpoint.blobs));
  await entry.wait(never);
  await synced(entry);
  const later = makeCache();
  await later.recover();
  const found = await later.wait(checkpoint.id, never);
  expect(found.progress).toMatchObject({ presentBytes: STORED, fetchedBytes: 0n, localBytes: STORED });
});

test.each([
  ['without its marker', (path: string) => rmSync(join(path, 'complete'))],
  ['with a file cut off', (path: string) => writeFileSync(join(path, 'files/pages-2.img'), 'short')],
  ['with a file missing', (path: string) => rmSync(join(path, 'files/pages-2.img'))],
  ['with the marker of another', (path: string) => writeFileSync(join(path, 'complete'), 'sha256:0\n')],
])('an entry %s is fetched anew from its start after a restart', async (_, damage) => {
  const entry = await add(makeCache());
  entry.start(new FakeSource(checkpoint.blobs));
  await entry.wait(never);
  await synced(entry);
  damage(entry.directory);
  const later = makeCache();
  const source = new FakeSource(checkpoint.blobs);
  sources.push(source);
  await later.recover();
  const found = await later.wait(checkpoint.id, never);
  expectContents(found);
  expect(found.progress.fetchedBytes).toBe(STORED);
});

test('an incomplete entry that no image names is thrown away at a restart', async () => {
  await add(makeCache());
  const later = makeCache();
  await later.recover();
  expect(later.entries()).toEqual([]);
  expect(readdirSync(dir)).toEqual([]);
  expect(log).toEqual(['discarded: it is not complete and no snapshot names its image']);
});

test('an entry with a damaged index is thrown away', async () => {
  const entry = await add(makeCache());
  entry.start(new FakeSource(checkpoint.blobs));
  await entry.wait(never);
  await synced(entry);
  writeFileSync(join(entry.directory, 'index'), Buffer.from([8, 1]));
  const later = makeCache();
  await later.recover();
  expect(later.entries()).toEqual([]);
  expect(readdirSync(dir)).toEqual([]);
});

test('eviction frees the files and keeps the lock that others may hold open', async () => {
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(new FakeSource(checkpoint.blobs));
  await entry.wait(never);
  locked = true;
  await expect(cache.evict(checkpoint.id)).rejects.toMatchObject({ code: Code.failedPrecondition });
  expectContents(entry);
  locked = false;
  expect(await cache.evict(checkpoint.id)).toBeGreaterThan(0n);
  expect(readdirSync(entry.directory)).toEqual(['lock']);
  await expect(cache.wait(checkpoint.id, never)).rejects.toMatchObject({ code: Code.notFound });
  await expect(cache.evict(checkpoint.id)).rejects.toMatchObject({ code: Code.notFound });
});

test('eviction ends a fetch that is going on', async () => {
  const source = new FakeSource(checkpoint.blobs);
  source.tamper = (bytes) => new Promise((resolve) => setTimeout(() => resolve(bytes), 30));
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(source);
  const waiting = expect(entry.wait(never)).rejects.toMatchObject({ code: Code.canceled });
  await cache.evict(checkpoint.id);
  await waiting;
  expect(readdirSync(entry.directory)).toEqual(['lock']);
  expect(log).toEqual(['started']);
});
