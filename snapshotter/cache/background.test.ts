import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
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
const FRAMES = 100;
const frames = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i);
const random = seeded(31);
const layer = fakeLayer(frames(FRAMES).map(() => random.bytes(FRAME)));
const never = new AbortController().signal;

let dir: string;
let cache: NodeCache;
let calm: Calm;
let clock: number;
let entry: CacheEntry;
let source: FakeSource;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-background-'));
  clock = 0;
  calm = new Calm({ ms: 10, atMostMs: 1e6, clock: () => clock });
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
      calm,
      parallel: 3,
      clock: () => clock,
      bootId: 'this boot',
    },
    events: silentEvents,
  });
  entry = await cache.addLayer(layer.id, layer.indexBytes);
  source = new FakeSource(new Map([[digestOf(layer.tar), layer.tar]]));
});
afterEach(async () => {
  await cache.close();
  rmSync(dir, { recursive: true });
});

const asked = () => source.reads.map(({ offset, length }) => [offset / FRAME, length / FRAME]);

/** Somebody else's transfer is under way. Resolves when what the order names is here. */
async function beginBesides(order: readonly number[]): Promise<void> {
  calm.begin();
  entry.prefer(order);
  entry.start(source);
  await cache.want(layer.id, order, never);
}

async function expectWhole(): Promise<void> {
  await entry.wait(never);
  expect(readFileSync(join(entry.imagesDirectory, TAR_FILE)).equals(layer.tar)).toBe(true);
}

test('the rest of a layer comes when it is calm', async () => {
  await beginBesides([7]);
  await cache.want(layer.id, [50, 51], never);
  expect(asked()).toEqual([
    [7, 1],
    [50, 2],
  ]);
  calm.end();
  clock = 9;
  await cache.want(layer.id, [60], never);
  expect(entry.present).toMatchObject({ chunks: 4, complete: false });
  const passing = setInterval(() => {
    clock += 10;
  }, 1);
  await expectWhole().finally(() => clearInterval(passing));
});

test('the rest of a layer comes at once where much of it was waited for', async () => {
  await beginBesides([7]);
  await cache.want(layer.id, frames(65, 10), never);
  await expectWhole();
});

test('a layer whose fetch ends while it waits for calm does not go on', async () => {
  await beginBesides([7]);
  await cache.close();
  expect(asked()).toEqual([[7, 1]]);
});
