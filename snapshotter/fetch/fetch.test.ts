import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { DATA_START, dataFileName, dataLayerTail, THAW_DIRECTORY } from '../../checkpoint/layer-layout.ts';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { FaultServer, sendBlob } from '../../checkpoint/registry/fault-server.test-helper.ts';
import { type CredentialRequest, CredentialStore } from '../../checkpoint/registry/index.ts';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import {
  type CacheEntry,
  Calm,
  DirectTransfers,
  Limiter,
  LocalSource,
  NodeCache,
  type TransferEvents,
} from '../cache/index.ts';
import { planRanges } from '../cache/plan.ts';
import { jobOf } from '../cache/range-job.ts';
import { ranks } from '../cache/rank.ts';
import { fakeCheckpoint } from '../fake-checkpoint.test-helper.ts';
import { Registries } from '../remote/registries.ts';
import { silentEvents } from '../silent-events.test-helper.ts';
import { FetchThreads } from './index.ts';

const random = seeded(31);
const CHUNK = 64 << 10;
const COUNT = 200;
const checkpoint = fakeCheckpoint([
  [
    {
      name: 'pages-1.img',
      size: COUNT * CHUNK,
      chunks: Array.from({ length: COUNT }, (_, i) => ({ at: i * CHUNK, bytes: random.bytes(CHUNK) })),
    },
  ],
]);
const layer = checkpoint.index.dataLayers[0]?.digest ?? '';
const blob = checkpoint.blobs.get(layer) ?? Buffer.alloc(0);
const STORED = BigInt(COUNT * CHUNK);
const never = new AbortController().signal;
const BASIC = `Basic ${Buffer.from('user:secret').toString('base64')}`;

let dir: string;
let server: FaultServer;
let registries: Registries;
/** All tests have the same: a thread that runs TypeScript takes a while to start. */
let threads: FetchThreads;
/** Chunks written in this thread: none may be. */
let direct = 0;
const counted = { registry: 0, mirror: 0, unpacked: 0 };
let cacheDir: string;
let cache: NodeCache;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-fetch-'));
  server = await FaultServer.start();
  server.authorization = BASIC;
  server.challenge = 'Basic realm="r"';
  const dockerConfig = join(dir, 'config.json');
  const auth = BASIC.slice('Basic '.length);
  writeFileSync(dockerConfig, JSON.stringify({ auths: { [server.host]: { auth } } }));
  const store = new CredentialStore({
    dockerConfig: { path: dockerConfig, required: true },
    environment: {},
  });
  const credentials = (request: CredentialRequest) => store.find(request);
  registries = new Registries({ credentials });
  threads = new FetchThreads({
    setup: { hosts: { 'origin.example': { mirrors: [server.host] } }, hostsDirs: [] },
    credentials,
    threads: 2,
    direct: new DirectTransfers(async () => {
      direct++;
    }),
    idleMs: 60_000,
  });
});
afterAll(async () => {
  await threads.close();
  await server.stop();
  await registries.close();
  rmSync(dir, { recursive: true });
  expect(direct).toBe(0);
});

beforeEach(() => {
  for (const [digest, bytes] of checkpoint.blobs) server.blobs.set(digest, bytes);
  server.requests.length = 0;
  for (const from of ['registry', 'mirror', 'unpacked'] as const) counted[from] = 0;
  cacheDir = mkdtempSync(join(dir, 'cache-'));
  cache = new NodeCache({
    directory: cacheDir,
    tryLock: () => true,
    maxBytes: undefined,
    now: () => 0,
    reopen: () => source(),
    entry: {
      transfers: threads,
      limiter: new Limiter(4),
      soonLimiter: new Limiter(2),
      calm: new Calm({ ms: 0, atMostMs: 0, clock: () => 0 }),
      parallel: 4,
      clock: () => performance.now(),
      bootId: 'this boot',
    },
    events: {
      ...silentEvents,
      onBytes: (from, bytes) => {
        if (from !== 'cache') counted[from] += bytes;
      },
    },
  });
});
afterEach(async () => {
  server.fault = undefined;
  await cache.close();
});

const source = () => registries.source(`${server.host}/test/app:1`);
const add = () => cache.add(checkpoint.id, checkpoint.indexBytes, checkpoint.checkpointJson);

function expectContents(entry: CacheEntry): void {
  for (const [name, content] of checkpoint.contents)
    expect(readFileSync(join(entry.imagesDirectory, name)).equals(content), name).toBe(true);
}

/** Deals with the nth request for the layer, if it is one of those. */
function fault(how: Record<number, (request: IncomingMessage, response: ServerResponse) => void>): void {
  let nth = 0;
  server.fault = (request, response) => {
    if (request.headers.authorization !== BASIC || !request.url?.endsWith(layer)) return false;
    const answer = how[++nth];
    answer?.(request, response);
    return answer !== undefined;
  };
}

test('a checkpoint arrives through the threads, verified and counted', { timeout: 60_000 }, async () => {
  const entry = await add();
  entry.start(source());
  await entry.wait(never);
  expectContents(entry);
  expect(entry.progress).toMatchObject({ fetchedBytes: STORED, presentBytes: STORED });
  expect(counted).toEqual({ registry: Number(STORED), mirror: 0, unpacked: 0 });
});

test('bytes of a mirror are counted apart', { timeout: 60_000 }, async () => {
  const entry = await add();
  entry.start(registries.source('origin.example/test/app:1'));
  await entry.wait(never);
  expect(counted).toEqual({ registry: 0, mirror: Number(STORED), unpacked: 0 });
});

test('a registry that misbehaves in every way is borne', async () => {
  fault({
    1: (_, response) => void response.writeHead(429, { 'retry-after': '0' }).end(),
    2: (_, response) => void response.writeHead(503).end(),
    // The whole blob instead of a part.
    3: (_, response) => void response.writeHead(200).end(blob),
    // It ends, or breaks, before all has come.
    4: (request, response) => {
      const [, from = '0'] = /bytes=(\d+)-/.exec(request.headers.range ?? '') ?? [];
      const part = blob.subarray(Number(from), Number(from) + 1000);
      response.writeHead(206, {
        'content-range': `bytes ${from}-${Number(from) + 999}/${blob.length}`,
        'content-length': part.length,
      });
      response.end(part);
    },
    5: (request) => request.socket.destroy(),
    // A redirect to an address that holds once.
    6: (_, response) => void response.writeHead(307, { location: `/signed/${layer}?once` }).end(),
    // Wrong bytes.
    7: (request, response) => sendBlob(request, response, Buffer.alloc(blob.length, 1)),
  });
  const misbehave = server.fault;
  let signed = 0;
  server.fault = (request, response, n) => {
    if (!request.url?.startsWith('/signed/')) return misbehave?.(request, response, n) ?? false;
    if (++signed > 1) response.writeHead(403).end();
    else sendBlob(request, response, blob);
    return true;
  };
  const entry = await add();
  entry.start(source());
  await entry.wait(never);
  expectContents(entry);
  expect(signed).toBeGreaterThan(0);
});

test('a chunk that stays wrong, and a layer that is not there, are said as they are without threads', async () => {
  const damaged = Buffer.from(blob);
  damaged.writeUInt8(damaged.readUInt8(DATA_START) ^ 1, DATA_START);
  server.blobs.set(layer, damaged);
  const entry = await add();
  entry.start(source());
  await expect(entry.wait(never)).rejects.toMatchObject({
    code: Code.dataLoss,
    message: expect.stringMatching(/^Cannot use the checkpoint: a chunk of "pages-1.img" from .* is corrupt/),
    context: { ordinal: 0, layer, offset: BigInt(DATA_START) },
  });
  expect(entry.present.chunks).toBe(COUNT - 1);
  server.blobs.delete(layer);
  entry.start(source());
  await expect(entry.wait(never)).rejects.toMatchObject({
    code: Code.notFound,
    message: expect.stringMatching(
      /^Cannot fetch the checkpoint from .*: Cannot read the blob .* answered 404/,
    ),
  });
  server.blobs.set(layer, blob);
  await cache.want(checkpoint.id, [0], never);
});

test('a fetch that is stopped writes nothing more', async () => {
  fault({ 1: () => {}, 2: () => {}, 3: () => {}, 4: () => {} });
  const entry = await add();
  entry.start(source());
  const waiting = expect(entry.wait(never)).rejects.toMatchObject({ code: Code.canceled });
  while (server.requests.length < 2) await sleep(5);
  await cache.evict(checkpoint.id);
  await waiting;
  expect(existsSync(entry.imagesDirectory)).toBe(false);
});

test('threads that end fail their work, and others take their place', { timeout: 60_000 }, async () => {
  fault({ 1: () => {}, 2: () => {}, 3: () => {}, 4: () => {} });
  const entry = await add();
  entry.start(source());
  const waiting = expect(entry.wait(never)).rejects.toMatchObject({ code: Code.unavailable });
  while (server.requests.length < 2) await sleep(5);
  await threads.close();
  await waiting;
  server.fault = undefined;
  await cache.want(checkpoint.id, [0], never);
  expect(entry.present.chunks).toBeGreaterThan(0);
});

test('files on this node are decoded by the threads too', async () => {
  const unpacked = join(dir, 'unpacked');
  const file = join(unpacked, THAW_DIRECTORY, dataFileName(0));
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, blob.subarray(DATA_START, blob.length - dataLayerTail(COUNT * CHUNK)));
  const entry = await add();
  entry.start(new LocalSource([unpacked], native.openBeneath));
  await entry.wait(never);
  expectContents(entry);
  expect(entry.progress).toMatchObject({ fetchedBytes: 0n, localBytes: STORED });
});

/** Nice values of this process's threads, as stat(5) of /proc/pid/task/tid counts them. */
function niceValues(): number[] {
  return readdirSync('/proc/self/task').map((tid) => {
    const stat = readFileSync(`/proc/self/task/${tid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
  });
}

test('bytes of every rank come, those of the background in threads that yield to all others', async () => {
  const entry = await add();
  await entry.makeFiles();
  const before = Math.max(...niceValues());
  for (const rank of ranks) {
    for (const [name, content] of checkpoint.contents)
      writeFileSync(join(entry.imagesDirectory, name), Buffer.alloc(content.length));
    const stored = new Set<number>();
    const events: TransferEvents = {
      onBytes() {},
      onStored: (ordinal) => stored.add(ordinal),
      onCorrupt: (_, error) => expect.unreachable(error.message),
      onUnreadable: (cause) => expect.unreachable(String(cause)),
    };
    for (const range of planRanges(entry.index))
      await threads.run(jobOf(entry.index, range, rank), source(), entry.imagesDirectory, events, never);
    expect(stored.size, rank).toBe(COUNT);
    expectContents(entry);
    const yields = Math.max(...niceValues()) > before;
    expect(yields, rank).toBe(rank === 'background');
  }
});
