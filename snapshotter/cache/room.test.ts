import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, test, vi } from 'vitest';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { Code } from '../../proto/status.ts';
import { type FakeCheckpoint, FakeSource, fakeCheckpoint } from '../fake-checkpoint.test-helper.ts';
import { silentEvents } from '../silent-events.test-helper.ts';
import { writeStoredChunk } from '../write-chunk.test-helper.ts';
import { type CacheEntry, Calm, DirectTransfers, Limiter, NodeCache, type WriteChunk } from './index.ts';
import { byLastUse, lacking } from './room.ts';

test('what is lacking is what all take together beyond the limit', () => {
  const of = (bytes: bigint) => ({ id: '', bytes, lastUsed: 0 });
  expect(lacking(of(4n), [of(3n), of(4n)], 10n)).toBe(1n);
  expect(lacking(of(4n), [], 10n)).toBe(-6n);
});

test('the longest unused goes first', () => {
  const tenants = [3, 1, 2].map((lastUsed) => ({ id: `${lastUsed}`, bytes: 1n, lastUsed }));
  expect(byLastUse(tenants)).toEqual(['1', '2', '3']);
});

const random = seeded(5);
const SIZE = 8192;
const checkpoints = Array.from({ length: 4 }, () =>
  fakeCheckpoint([[{ name: 'pages-1.img', size: SIZE, chunks: [{ at: 0, bytes: random.bytes(SIZE) }] }]]),
) as [FakeCheckpoint, FakeCheckpoint, FakeCheckpoint, FakeCheckpoint];
const never = new AbortController().signal;

describe('a node cache that is full', () => {
  let dir: string;
  let now: number;
  let clock: number;
  /** Lock files that containers hold. */
  let held: Set<string>;
  let displaced: string[];
  let whenDisplaced: () => void;
  let caches: NodeCache[];

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'thaw-room-'));
    now = Date.UTC(2026, 0, 1);
    clock = 0;
    held = new Set();
    displaced = [];
    whenDisplaced = () => {};
    caches = [];
  });
  afterEach(async () => {
    for (const cache of caches) await cache.close();
    rmSync(dir, { recursive: true });
  });

  function makeCache(maxBytes: bigint | undefined, writeChunk: WriteChunk = writeStoredChunk): NodeCache {
    const cache = new NodeCache({
      directory: dir,
      tryLock: (fd) => !held.has(readlinkSync(`/proc/self/fd/${fd}`)),
      reopen: (id) => new FakeSource(checkpoints.find((one) => one.id === id)?.blobs ?? new Map()),
      maxBytes,
      now: () => now,
      entry: {
        transfers: new DirectTransfers(writeChunk),
        limiter: new Limiter(2),
        soonLimiter: new Limiter(2),
        calm: new Calm({ ms: 0, atMostMs: 0, clock: () => 0 }),
        parallel: 2,
        clock: () => clock,
        bootId: 'this boot',
      },
      events: {
        ...silentEvents,
        onDisplaced(id) {
          displaced.push(id);
          whenDisplaced();
        },
      },
    });
    caches.push(cache);
    return cache;
  }

  async function bring(cache: NodeCache, one: FakeCheckpoint): Promise<CacheEntry> {
    now += 1000;
    const entry = await cache.add(one.id, one.indexBytes, one.checkpointJson);
    entry.start(new FakeSource(one.blobs));
    await entry.wait(never);
    if (entry.state.kind === 'complete') await entry.state.synced;
    return entry;
  }

  async function use(cache: NodeCache, one: FakeCheckpoint): Promise<void> {
    now += 1000;
    await cache.wait(one.id, never);
  }

  const here = (cache: NodeCache) => cache.entries().map(({ id }) => id);

  it('gives up what was not used for longest', async () => {
    const [a, b, c, d] = checkpoints;
    const cache = makeCache(BigInt(3 * SIZE));
    for (const one of [a, b, c]) await bring(cache, one);
    await use(cache, a);
    const entry = await bring(cache, d);
    expect(displaced).toEqual([b.id]);
    expect(here(cache)).toEqual([a.id, c.id, d.id]);
    expect(entry.state.kind).toBe('complete');
    expect(readdirSync(join(dir, b.id.slice('sha256:'.length)))).toEqual(['lock']);
  });

  it('knows the order of use of an earlier run', async () => {
    const [a, b, c] = checkpoints;
    const before = makeCache(undefined);
    for (const one of [a, b]) await bring(before, one);
    await use(before, a);
    const cache = makeCache(BigInt(2 * SIZE));
    await cache.recover();
    await bring(cache, c);
    expect(displaced).toEqual([b.id]);
  });

  it('keeps what containers are restored from', async () => {
    const [a, b, c] = checkpoints;
    const cache = makeCache(BigInt(2 * SIZE));
    held.add((await bring(cache, a)).lockFile);
    await bring(cache, b);
    await bring(cache, c);
    expect(displaced).toEqual([b.id]);
    held.add(cache.find(c.id)?.lockFile ?? '');
    await expect(bring(cache, b)).rejects.toMatchObject({
      code: Code.resourceExhausted,
      message: expect.stringContaining('all that is in there is in use'),
    });
    expect(here(cache)).toContain(a.id);
    held.clear();
    clock += 10_000;
    await use(cache, b);
    expect(cache.find(b.id)?.state.kind).toBe('complete');
  });

  it('refuses what can never fit, and gives up nothing for it', async () => {
    const [a] = checkpoints;
    const cache = makeCache(BigInt(SIZE));
    await bring(cache, a);
    const large = fakeCheckpoint([
      [{ name: 'pages-1.img', size: 2 * SIZE, chunks: [{ at: 0, bytes: random.bytes(SIZE + 1) }] }],
    ]);
    await expect(bring(cache, large)).rejects.toMatchObject({
      code: Code.resourceExhausted,
      message: expect.stringContaining('raise cache.max_bytes'),
    });
    expect(displaced).toEqual([]);
  });

  it('gives up no more than two that come at once need', async () => {
    const [a, b, c] = checkpoints;
    const cache = makeCache(BigInt(2 * SIZE));
    await bring(cache, a);
    await Promise.all([bring(cache, b), bring(cache, c)]);
    expect(displaced).toEqual([a.id]);
    expect(here(cache).toSorted()).toEqual([b.id, c.id].toSorted());
  });

  it('frees some where the disk is full before its limit is reached', async () => {
    const [a, b] = checkpoints;
    let room = 1;
    const cache = makeCache(undefined, async (...args) => {
      if (room-- <= 0) throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
      await writeStoredChunk(...args);
    });
    await bring(cache, a);
    whenDisplaced = () => {
      room = 1;
    };
    expect((await bring(cache, b)).state.kind).toBe('complete');
    expect(displaced).toEqual([a.id]);
  });

  it('goes on writing down what is here once there is room again', async () => {
    const [a] = checkpoints;
    const large = fakeCheckpoint(
      [1, 2, 3].map((n) => [
        { name: `pages-${n}.img`, size: SIZE, chunks: [{ at: 0, bytes: random.bytes(SIZE) }] },
      ]),
    );
    let room = 2;
    const cache = makeCache(undefined, async (...args) => {
      if (room-- <= 0) throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
      await writeStoredChunk(...args);
    });
    await bring(cache, a);
    whenDisplaced = () => {
      room = 2;
      // A map is due with the next chunk.
      clock += 10_000;
    };
    const source = new FakeSource(large.blobs);
    const last = large.index.dataLayers.at(-1)?.digest;
    const hanging = Promise.withResolvers<void>();
    source.tamper = async (bytes, { digest }) => {
      if (digest === last && displaced.length > 0) await hanging.promise;
      return bytes;
    };
    const entry = await cache.add(large.id, large.indexBytes, large.checkpointJson);
    entry.start(source);
    await vi.waitUntil(() => existsSync(join(entry.directory, 'present')), { timeout: 10_000 });
    hanging.resolve();
    await entry.wait(never);
    expect(displaced).toEqual([a.id]);
  });
});
