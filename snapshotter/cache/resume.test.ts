import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { FakeSource, fakeCheckpoint } from '../fake-checkpoint.test-helper.ts';
import { silentEvents } from '../silent-events.test-helper.ts';
import { writeStoredChunk } from '../write-chunk.test-helper.ts';
import { type BlobSource, type CacheEntry, Calm, DirectTransfers, Limiter, NodeCache } from './index.ts';
import { encodePresence } from './presence-file.ts';

const random = seeded(11);
const LAYERS = 4;
const checkpoint = fakeCheckpoint(
  Array.from({ length: LAYERS }, (_, i) => [
    { name: `pages-${i}.img`, size: 8192, chunks: [{ at: 4096, bytes: random.bytes(4096) }] },
  ]),
);
const STORED = BigInt(LAYERS * 4096);
const layers = checkpoint.index.dataLayers.map(({ digest }) => digest);
const OTHER = `sha256:${'0'.repeat(64)}`;
const ALL = { bootId: 'this boot', bits: Uint8Array.of(2 ** LAYERS - 1) };
const never = new AbortController().signal;

let dir: string;
let copy: string;
let clock: number;
let caches: NodeCache[];
/** Opened when the daemon is to end: a source that hangs hears of it then. */
let hanging: PromiseWithResolvers<void>;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-resume-'));
  copy = mkdtempSync(join(tmpdir(), 'thaw-resume-'));
  clock = 0;
  caches = [];
  hanging = Promise.withResolvers();
});
afterEach(async () => {
  await closeAll();
  for (const path of [dir, copy]) rmSync(path, { recursive: true });
});

async function closeAll(): Promise<void> {
  const closed = caches.map((cache) => cache.close());
  hanging.resolve();
  await Promise.all(closed);
}

function makeCache(directory: string, source: BlobSource, bootId = 'this boot'): NodeCache {
  const cache = new NodeCache({
    directory,
    tryLock: () => true,
    maxBytes: undefined,
    now: () => 0,
    reopen: () => source,
    entry: {
      transfers: new DirectTransfers(writeStoredChunk),
      limiter: new Limiter(1),
      soonLimiter: new Limiter(2),
      calm: new Calm({ ms: 0, atMostMs: 0, clock: () => 0 }),
      parallel: 1,
      clock: () => clock,
      bootId,
    },
    events: silentEvents,
  });
  caches.push(cache);
  return cache;
}

/** A fetch that got `count` layers and hangs at the next; `onRead` is told before each. */
async function fetchSome(count: number, onRead: (nth: number) => void = () => {}): Promise<CacheEntry> {
  const source = new FakeSource(checkpoint.blobs);
  const stuck = Promise.withResolvers<void>();
  source.tamper = async (bytes, _, nth) => {
    onRead(nth);
    if (nth <= count) return bytes;
    stuck.resolve();
    await hanging.promise;
    return bytes;
  };
  const { id, indexBytes, checkpointJson } = checkpoint;
  const entry = await makeCache(dir, source).add(id, indexBytes, checkpointJson);
  entry.start(source);
  await stuck.promise;
  return entry;
}

/** Another daemon on what lies in `directory`: what it had to fetch. */
async function goOn(directory: string, bootId?: string): Promise<string[]> {
  const source = new FakeSource(checkpoint.blobs);
  const cache = makeCache(directory, source, bootId);
  await cache.recover();
  const entry = await cache.wait(checkpoint.id, never);
  for (const [name, content] of checkpoint.contents)
    expect(readFileSync(join(entry.imagesDirectory, name)).equals(content), name).toBe(true);
  const { fetchedBytes, localBytes, presentBytes } = entry.progress;
  expect(presentBytes).toBe(STORED);
  expect(fetchedBytes + localBytes).toBe(STORED);
  if (entry.state.kind === 'complete') await entry.state.synced;
  expect(existsSync(join(entry.directory, 'present'))).toBe(false);
  return source.reads.map(({ digest }) => digest);
}

/** What a machine whose power fails now has on its disk. */
async function crash(entry: CacheEntry): Promise<string> {
  cpSync(dir, copy, { recursive: true });
  return join(copy, entry.id.slice('sha256:'.length));
}

/** Time passes until the map is saved. */
async function saved(entry: CacheEntry): Promise<void> {
  for (let i = 0; i < 1000 && !existsSync(join(entry.directory, 'present')); i++)
    await new Promise((resolve) => setTimeout(resolve, 5));
  expect(existsSync(join(entry.directory, 'present'))).toBe(true);
}

/** The fourth layer hangs; with the third the map is due. */
const fetchThreeAndSave = () =>
  fetchSome(3, (nth) => {
    if (nth === 3) clock += 10_000;
  });

test('a fetch that a restart cut off goes on where it was', async () => {
  await fetchSome(2);
  await closeAll();
  expect(await goOn(dir)).toEqual(layers.slice(2));
});

test('a fetch that was killed goes on from what had been saved', async () => {
  const entry = await fetchThreeAndSave();
  await saved(entry);
  await crash(entry);
  const fetched = await goOn(copy);
  expect(fetched.length).toBeLessThan(LAYERS);
  expect(fetched).toEqual(layers.slice(-fetched.length));
});

test('a chunk that another boot wrote is here only if its bytes are', async () => {
  const entry = await fetchThreeAndSave();
  await saved(entry);
  const left = await crash(entry);
  writeFileSync(join(left, 'files/pages-0.img'), Buffer.alloc(8192));
  expect((await goOn(copy, 'another boot'))[0]).toBe(layers[0]);
});

test('in the same boot nothing is read back', async () => {
  const entry = await fetchThreeAndSave();
  await saved(entry);
  await crash(entry);
  expect(await goOn(copy, 'this boot')).not.toContain(layers[0]);
});

test.each([
  ['is damaged', (path: string) => flip(path, 60)],
  ['is of another checkpoint', (path: string) => writeFileSync(path, encodePresence(OTHER, ALL))],
  ['is cut off', (path: string) => writeFileSync(path, readFileSync(path).subarray(0, -1))],
  ['is empty', (path: string) => writeFileSync(path, '')],
])('a map that %s is not believed', async (_, damage) => {
  const entry = await fetchThreeAndSave();
  await saved(entry);
  damage(join(await crash(entry), 'present'));
  expect(await goOn(copy)).toEqual(layers);
});

test('a map is not believed where a file is missing', async () => {
  const entry = await fetchThreeAndSave();
  await saved(entry);
  rmSync(join(await crash(entry), 'files/pages-3.img'));
  expect(await goOn(copy)).toEqual(layers);
});

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  writeFileSync(path, bytes);
}
