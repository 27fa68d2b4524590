import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LayerServer } from '../../native/layer-server/calls.ts';
import { type CacheEntry, Calm, DirectTransfers, Limiter, NodeCache } from '../cache/index.ts';
import { fakeLayer } from '../fake-layer.test-helper.ts';
import { silentEvents } from '../silent-events.test-helper.ts';
import { writeStoredChunk } from '../write-chunk.test-helper.ts';
import { LazyLayers, type LazyLayersOptions } from './index.ts';

/** Something is mounted there, on every machine. */
const MOUNTED = '/proc';

let dir: string;
let cache: NodeCache;
/** What the kernel and the FUSE server were asked for, in order. */
let calls: string[];
let failures: Record<string, string>;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-layers-'));
  calls = [];
  failures = {};
  cache = new NodeCache({
    directory: join(dir, 'cache'),
    tryLock: () => true,
    maxBytes: undefined,
    now: () => 0,
    reopen: () => undefined,
    entry: {
      transfers: new DirectTransfers(writeStoredChunk),
      limiter: new Limiter(1),
      soonLimiter: new Limiter(1),
      calm: new Calm({ ms: 0, atMostMs: 0, clock: () => 0 }),
      parallel: 1,
      clock: () => 0,
      bootId: 'this boot',
    },
    events: silentEvents,
  });
});
afterEach(async () => {
  await cache.close();
  rmSync(dir, { recursive: true });
});

function failing(errno: string): Error {
  return Object.assign(new Error(errno), { code: errno });
}

/** On a node where an earlier daemon has mounted the device. */
function layersOf(): LazyLayers {
  const call = (name: string) => {
    calls.push(name);
    const errno = failures[name];
    if (errno !== undefined) throw failing(errno);
  };
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  writeFileSync(join(dir, 'layers.json'), JSON.stringify({ pid: process.pid, started }));
  const native: LazyLayersOptions['native'] = {
    mount: (_, target) => call(`mount ${target}`),
    umount: () => {
      throw failing('EINVAL');
    },
    loopAttach: () => {
      throw failing('ENOTBLK');
    },
    tryLock: () => true,
    layerServerOpen: () => {
      call('open');
      return {} as LayerServer;
    },
    layerServerStart: () => call('start'),
    layerServerAdd: (_, __, name) => call(`add ${name}`),
    layerServerRemove: () => call('remove'),
    layerServerPresent: () => {},
    layerServerReads: () => new Uint32Array(),
    layerServerAnswer: () => {},
    layerServerResend: () => call('resend'),
    layerServerStop: () => call('stop'),
  };
  return new LazyLayers({
    want: async () => {},
    native,
    device: {
      directory: MOUNTED,
      recordFile: join(dir, 'layers.json'),
      calls: {
        mount: () => call('mount the device'),
        umount: () => {},
        takeDescriptor: () => openSync('/dev/null', 'r'),
        startHolder: async () => process.pid,
      },
    },
    mounts: 'auto',
    threads: 1,
    readTimeoutMs: 1000,
    log: pino({ enabled: false }),
  });
}

async function entries(count: number): Promise<CacheEntry[]> {
  const made: CacheEntry[] = [];
  for (let i = 0; i < count; i++) {
    const { id, indexBytes } = fakeLayer([Buffer.alloc(4096, i)]);
    made.push(await cache.addLayer(id, indexBytes));
  }
  return made;
}

const filesOf = (entry: CacheEntry) => {
  const name = entry.id.slice('sha256:'.length);
  return [`add ${name}`, `add ${name}.recorded`];
};

test('a daemon that follows another answers nobody before it knows every file that may be open', async () => {
  const [a, b, gone] = (await entries(3)) as [CacheEntry, CacheEntry, CacheEntry];
  const layers = layersOf();
  const lost: number[] = [];
  await layers.restore(
    [
      { entry: gone, directory: join(dir, 'gone'), id: 1 },
      { entry: a, directory: MOUNTED, id: 2 },
      { entry: b, directory: MOUNTED, id: 3 },
    ],
    (id) => lost.push(id),
  );
  expect(lost).toEqual([]);
  expect(calls).toEqual([
    'open',
    ...[gone, a, b].flatMap(filesOf),
    'start',
    'resend',
    `mount ${join(dir, 'gone')}`,
  ]);
  await layers.close();
});

test('a kernel that cannot send again what was not answered is served all the same', async () => {
  failures = { resend: 'EINVAL' };
  const [entry] = (await entries(1)) as [CacheEntry];
  const layers = layersOf();
  const lost: number[] = [];
  await layers.restore([{ entry, directory: MOUNTED, id: 1 }], (id) => lost.push(id));
  expect(lost).toEqual([]);
  expect(calls).toEqual(['open', ...filesOf(entry), 'start', 'resend']);
  await layers.close();
});

test('a server that does not start is stopped, and its layers are lost', async () => {
  failures = { start: 'EAGAIN' };
  const [entry] = (await entries(1)) as [CacheEntry];
  const layers = layersOf();
  const lost: number[] = [];
  await layers.restore([{ entry, directory: MOUNTED, id: 1 }], (id) => lost.push(id));
  expect(lost).toEqual([1]);
  expect(calls.slice(-2)).toEqual(['start', 'stop']);
});
