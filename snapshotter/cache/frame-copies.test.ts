import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../../checkpoint/digest.ts';
import { TAR_FILE } from '../../checkpoint/lazy/layer-index.ts';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { FakeSource } from '../fake-checkpoint.test-helper.ts';
import { fakeLayer } from '../fake-layer.test-helper.ts';
import { silentEvents } from '../silent-events.test-helper.ts';
import { writeStoredChunk } from '../write-chunk.test-helper.ts';
import { type CacheEntry, Calm, DirectTransfers, Limiter, NodeCache } from './index.ts';

const FRAME = 4096;
const random = seeded(12);
const [a, b, c, d, e] = Array.from({ length: 5 }, () => random.bytes(FRAME)) as [
  Buffer,
  Buffer,
  Buffer,
  Buffer,
  Buffer,
];
const never = new AbortController().signal;

let dir: string;
let cache: NodeCache;
let reused: number;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-frames-'));
  reused = 0;
  cache = new NodeCache({
    directory: dir,
    tryLock: () => true,
    maxBytes: undefined,
    now: () => 0,
    reopen: () => undefined,
    entry: {
      transfers: new DirectTransfers(writeStoredChunk),
      limiter: new Limiter(3),
      soonLimiter: new Limiter(2),
      calm: new Calm({ ms: 0, atMostMs: 0, clock: () => 0 }),
      parallel: 3,
      clock: () => 0,
      bootId: 'this boot',
    },
    events: {
      ...silentEvents,
      onBytes(from, bytes) {
        if (from === 'cache') reused += bytes;
      },
    },
  });
});
afterEach(async () => {
  await cache.close();
  rmSync(dir, { recursive: true });
});

interface Layer {
  entry: CacheEntry;
  tar: Buffer;
  source: FakeSource;
}

async function add(...frames: Buffer[]): Promise<Layer> {
  const { id, indexBytes, tar } = fakeLayer(frames);
  const entry = await cache.addLayer(id, indexBytes);
  return { entry, tar, source: new FakeSource(new Map([[digestOf(tar), tar]])) };
}

/** How many bytes the registry was asked for. */
async function bring({ entry, tar, source }: Layer): Promise<number> {
  entry.start(source);
  await entry.wait(never);
  expect(readFileSync(join(entry.imagesDirectory, TAR_FILE)).equals(tar)).toBe(true);
  return source.reads.reduce((sum, { length }) => sum + length, 0);
}

test('a frame that is here in another layer is copied, wherever it is in that one', async () => {
  await bring(await add(a, b, c));
  const layer = await add(d, c, e, a);
  expect(await bring(layer)).toBe(2 * FRAME);
  expect(layer.source.reads.map(({ offset }) => offset)).toEqual([0, 2 * FRAME]);
  expect(reused).toBe(2 * FRAME);
  expect(layer.entry.progress).toMatchObject({
    fetchedBytes: BigInt(2 * FRAME),
    localBytes: BigInt(2 * FRAME),
    presentBytes: BigInt(4 * FRAME),
  });
});

test('a layer whose frames are all here needs no registry', async () => {
  await bring(await add(a, b));
  await bring(await add(c, d));
  expect(await bring(await add(d, a, c))).toBe(0);
});

test('a copy that is not there, not right or gone is not taken', async () => {
  await add(a);
  const damaged = await add(b);
  await bring(damaged);
  writeFileSync(join(damaged.entry.imagesDirectory, TAR_FILE), random.bytes(FRAME));
  const removed = await add(c);
  await bring(removed);
  rmSync(removed.entry.imagesDirectory, { recursive: true });
  const evicted = await add(d);
  await bring(evicted);
  await cache.evict(evicted.entry.id);
  expect(await bring(await add(a, b, c, d))).toBe(4 * FRAME);
  expect(reused).toBe(0);
});
