import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { Code } from '../../proto/status.ts';
import { notFound, SnapshotError } from '../error.ts';
import { FakeSource, fakeCheckpoint } from '../fake-checkpoint.test-helper.ts';
import { silentEvents } from '../silent-events.test-helper.ts';
import { writeStoredChunk } from '../write-chunk.test-helper.ts';
import { chunkAt } from './chunk-lookup.ts';
import {
  type BlobSource,
  type CacheEntry,
  Calm,
  DirectTransfers,
  Limiter,
  NodeCache,
  type WriteChunk,
} from './index.ts';

const random = seeded(17);
const CHUNK = 128 << 10;
/** A layer is more than a range may be long, so that the stream has several. */
const PER_LAYER = 72;
const LAYERS = 3;
const COUNT = PER_LAYER * LAYERS;
const checkpoint = fakeCheckpoint(
  Array.from({ length: LAYERS }, (_, layer) => [
    {
      name: `pages-${layer}.img`,
      size: PER_LAYER * CHUNK,
      chunks: Array.from({ length: PER_LAYER }, (_, i) => ({ at: i * CHUNK, bytes: random.bytes(CHUNK) })),
    },
  ]),
);
const STORED = BigInt(COUNT * CHUNK);
const never = new AbortController().signal;
const unavailable = new SnapshotError(Code.unavailable, 'registry gone');

let dir: string;
let clock: number;
let caches: NodeCache[];
let sources: BlobSource[];
let locked: boolean;
/** Sources that hang hear of the end of a test here. */
let over: PromiseWithResolvers<void>;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-want-'));
  clock = 0;
  caches = [];
  sources = [];
  locked = false;
  over = Promise.withResolvers();
});
afterEach(async () => {
  const closed = caches.map((cache) => cache.close());
  over.resolve();
  await Promise.all(closed);
  rmSync(dir, { recursive: true });
});

function makeCache(
  writeChunk: WriteChunk = writeStoredChunk,
  maxBytes: bigint | undefined = undefined,
): NodeCache {
  const cache = new NodeCache({
    directory: dir,
    tryLock: () => !locked,
    maxBytes,
    now: () => 0,
    reopen: () => sources.shift(),
    entry: {
      transfers: new DirectTransfers(writeChunk),
      limiter: new Limiter(1),
      soonLimiter: new Limiter(2),
      calm: new Calm({ ms: 0, atMostMs: 0, clock: () => 0 }),
      parallel: 1,
      clock: () => clock,
      bootId: 'this boot',
    },
    events: silentEvents,
  });
  caches.push(cache);
  return cache;
}

const add = (cache: NodeCache) => cache.add(checkpoint.id, checkpoint.indexBytes, checkpoint.checkpointJson);

function fakeSource(): FakeSource {
  const source = new FakeSource(checkpoint.blobs);
  source.pieceBytes = 100_000;
  return source;
}

/** A source that lets a read go on only if `pass` says so, and hangs else. */
function gated(pass: (offset: number, length: number) => boolean): FakeSource {
  const source = fakeSource();
  source.tamper = async (bytes, { offset }) => {
    if (!pass(offset, bytes.length)) await over.promise;
    return bytes;
  };
  return source;
}

const ALL = [...Array(COUNT).keys()];

function expectChunks(entry: CacheEntry, ordinals: readonly number[]): void {
  const { bits } = entry.present;
  for (const [name, content] of checkpoint.contents) {
    const actual = readFileSync(join(entry.imagesDirectory, name));
    for (const ordinal of ordinals) {
      const { file, chunk } = chunkAt(checkpoint.index, ordinal);
      if (file.name !== name) continue;
      const [from, to] = [Number(chunk.fileOffset), Number(chunk.fileOffset) + chunk.decodedLength];
      expect(actual.subarray(from, to).equals(content.subarray(from, to)), `${ordinal}`).toBe(true);
      expect((bits[ordinal >> 3] ?? 0) & (1 << (ordinal & 7))).not.toBe(0);
    }
  }
}

test('wanted chunks come while long ranges hang, alone, and are not fetched again', async () => {
  const source = gated((_, length) => length <= 4 * CHUNK);
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(source);
  while (source.reads.length === 0) await sleep(1);
  const wanted = [PER_LAYER + 3, PER_LAYER + 4, COUNT - 1];
  await cache.want(checkpoint.id, wanted, never);
  expectChunks(entry, wanted);
  expect(entry.present).toMatchObject({ chunks: 3, complete: false });
  expect(source.reads.map(({ length }) => length / CHUNK)).toEqual([64, 2, 1]);
  source.tamper = (bytes) => bytes;
  over.resolve();
  await entry.wait(never);
  expectChunks(entry, ALL);
  expect(entry.progress).toMatchObject({ fetchedBytes: STORED, wantedChunks: 0 });
});

test('a chunk that a stalled range is bringing is fetched by itself', async () => {
  const source = gated((_, length) => length === CHUNK);
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(source);
  while (source.reads.length === 0) await sleep(1);
  await cache.want(checkpoint.id, [7], never);
  expectChunks(entry, [7]);
});

test('present chunks are answered at once, whatever the state; unknown ones are refused', async () => {
  const cache = makeCache();
  const entry = await add(cache);
  await expect(cache.want(checkpoint.id, [COUNT], never)).rejects.toMatchObject({
    code: Code.invalidArgument,
  });
  await expect(cache.want(`sha256:${'0'.repeat(64)}`, [0], never)).rejects.toMatchObject({
    code: Code.notFound,
  });
  await cache.want(checkpoint.id, [], never);
  const source = fakeSource();
  source.tamper = (bytes, _, count) => {
    if (count > 1) throw unavailable;
    return bytes;
  };
  entry.start(source);
  await expect(entry.wait(never)).rejects.toMatchObject({ code: Code.unavailable });
  await cache.want(checkpoint.id, [0, 1, 2], never);
  expect(entry.state.kind).toBe('failed');
  entry.start(fakeSource());
  await entry.wait(never);
  await cache.want(checkpoint.id, [0, COUNT - 1], never);
});

test('who waits outlives failed attempts, and makes the next one soon', async () => {
  const gone = fakeSource();
  gone.tamper = () => {
    throw unavailable;
  };
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(gone);
  const back = fakeSource();
  sources.push(back);
  await cache.want(checkpoint.id, [100], never);
  expectChunks(entry, [100]);
  expect(back.reads[0]?.length).toBe(CHUNK);
});

test('who gives up is not waited for', async () => {
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(gated(() => false));
  const patience = new AbortController();
  const waiting = cache.want(checkpoint.id, [100, 101], patience.signal);
  expect(entry.progress.wantedChunks).toBe(2);
  patience.abort();
  await expect(waiting).rejects.toMatchObject({ code: Code.canceled });
  expect(entry.progress.wantedChunks).toBe(0);
});

test('a chunk that stays wrong is the answer of who waits for it; all others arrive', async () => {
  const bad = chunkAt(checkpoint.index, 90);
  const source = fakeSource();
  source.tamper = (bytes, { digest, offset }) => {
    const at = Number(bad.chunk.layerOffset) - offset;
    const hit =
      digest === checkpoint.index.dataLayers[bad.chunk.layer]?.digest && at >= 0 && at < bytes.length;
    if (hit) bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    return bytes;
  };
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(source);
  const waiting = cache.want(checkpoint.id, [89, 90, 91], never);
  const others = cache.want(checkpoint.id, [COUNT - 1, 89], never);
  await expect(waiting).rejects.toMatchObject({ code: Code.dataLoss, context: { ordinal: 90 } });
  await others;
  await expect(entry.wait(never)).rejects.toMatchObject({ code: Code.dataLoss });
  expect(entry.present).toMatchObject({ chunks: COUNT - 1, complete: false });
  // As long as that is fresh it is the answer; later it is tried again.
  await expect(cache.want(checkpoint.id, [90], never)).rejects.toMatchObject({ code: Code.dataLoss });
  clock += 60_000;
  sources.push(fakeSource());
  await cache.want(checkpoint.id, [90], never);
  expectChunks(entry, ALL);
});

test('a layer that cannot be read does not stop the others', async () => {
  const lost = checkpoint.index.dataLayers[0]?.digest;
  const source = fakeSource();
  source.tamper = (bytes, { digest }) => {
    if (digest === lost) throw notFound('blob unknown');
    return bytes;
  };
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(source);
  const waiting = cache.want(checkpoint.id, [0], never);
  await expect(entry.wait(never)).rejects.toMatchObject({ code: Code.notFound });
  expect(entry.present.chunks).toBe(COUNT - PER_LAYER);
  expect(source.reads.filter(({ digest }) => digest === lost).length).toBeLessThan(4);
  // It may be pushed again.
  sources.push(fakeSource());
  await waiting;
});

test('a disk without room is the answer of all who wait', async () => {
  const full: WriteChunk = async () => {
    throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
  };
  const cache = makeCache(full);
  const entry = await add(cache);
  entry.start(fakeSource());
  await expect(cache.want(checkpoint.id, [0], never)).rejects.toMatchObject({ code: Code.resourceExhausted });
  await expect(cache.want(checkpoint.id, [1], never)).rejects.toMatchObject({ code: Code.resourceExhausted });
  const small = makeCache(writeStoredChunk, 1n);
  (await add(small)).start(fakeSource());
  await expect(small.want(checkpoint.id, [0], never)).rejects.toMatchObject({ code: Code.resourceExhausted });
});

test('a registry that limits requests is waited for', async () => {
  const source = fakeSource();
  source.tamper = () => {
    throw new SnapshotError(Code.resourceExhausted, 'slow down', { context: { status: 429 } });
  };
  const cache = makeCache();
  (await add(cache)).start(source);
  sources.push(fakeSource());
  await cache.want(checkpoint.id, [0], never);
});

test('an eviction and the end of the daemon are said', async () => {
  const cache = makeCache();
  const entry = await add(cache);
  entry.start(gated(() => false));
  const evicted = expect(cache.want(checkpoint.id, [0], never)).rejects.toMatchObject({
    code: Code.notFound,
  });
  const polled = expect(cache.presence(checkpoint.id, 0, never)).rejects.toMatchObject({
    code: Code.notFound,
  });
  const gone = cache.evict(checkpoint.id);
  over.resolve();
  await Promise.all([gone, evicted, polled]);
  over = Promise.withResolvers();
  (await add(cache)).start(gated(() => false));
  const ended = expect(cache.want(checkpoint.id, [0], never)).rejects.toMatchObject({
    code: Code.unavailable,
  });
  const closed = cache.close();
  over.resolve();
  await Promise.all([closed, ended]);
});

test('presence is told when it changes', async () => {
  const cache = makeCache();
  const entry = await add(cache);
  const source = gated((_, length) => length <= 8 * CHUNK);
  entry.start(source);
  expect(await cache.presence(checkpoint.id, 5, never)).toEqual({
    bits: new Uint8Array(COUNT / 8),
    chunks: 0,
    complete: false,
  });
  const changed = cache.presence(checkpoint.id, 0, never);
  await cache.want(checkpoint.id, [100, 101, 102, 103], never);
  expect((await changed).chunks).toBeGreaterThan(0);
  const { bits, chunks } = await cache.presence(checkpoint.id, 0, never);
  expect(chunks).toBe(4);
  expect(Buffer.from(bits).toString('hex', 12, 13)).toBe('f0');
  source.tamper = (bytes) => bytes;
  over.resolve();
  await entry.wait(never);
  expect(await cache.presence(checkpoint.id, COUNT, never)).toEqual({
    bits: new Uint8Array(COUNT / 8).fill(0xff),
    chunks: COUNT,
    complete: true,
  });
});

test('an answer to a caller who has gone does not wait', async () => {
  const cache = makeCache();
  await add(cache);
  const gone = new AbortController();
  const polled = cache.presence(checkpoint.id, 0, gone.signal);
  gone.abort();
  expect((await polled).chunks).toBe(0);
});

test('files that somebody may have mapped are kept by a daemon that was killed, or the fetch is refused', async () => {
  const first = await add(makeCache());
  const [cache] = caches;
  first.start(gated((_, length) => length === CHUNK));
  await cache?.want(checkpoint.id, [100], never);
  // Killed: nothing was saved. A shim has the lock.
  locked = true;
  const mapped = join(first.imagesDirectory, 'pages-0.img');
  const inode = statSync(mapped).ino;
  sources.push(fakeSource());
  const later = makeCache();
  await later.recover();
  const entry = later.find(checkpoint.id);
  if (!entry) throw new Error('not recovered');
  await entry.wait(never);
  expect(statSync(mapped).ino).toBe(inode);
  expectChunks(entry, ALL);
  if (entry.state.kind === 'complete') await entry.state.synced;

  rmSync(join(entry.directory, 'complete'));
  rmSync(mapped);
  sources.push(fakeSource());
  const damaged = makeCache();
  await damaged.recover();
  await expect(damaged.want(checkpoint.id, [0], never)).rejects.toMatchObject({
    code: Code.failedPrecondition,
  });
});

test('what a restore elsewhere read comes first; what is not there, or was named before, is passed over', async () => {
  const cache = makeCache();
  const entry = await add(cache);
  const third = PER_LAYER * 2;
  entry.prefer([third + 3, third + 3, COUNT + 5]);
  const source = fakeSource();
  entry.start(source);
  await entry.wait(never);
  expect(source.reads[0]?.digest).toBe(checkpoint.index.dataLayers[2]?.digest);
  expectChunks(entry, ALL);
});
