/** A checkpoint comes right from a registry that misbehaves in every way, or does not come, with the reason; never wrong. */
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { INDEX_ANNOTATION } from '../checkpoint/annotation.ts';
import { seeded } from '../checkpoint/random.test-helper.ts';
import { Code } from '../proto/status.ts';
import { type FakeCheckpoint, fakeCheckpoint } from '../snapshotter/fake-checkpoint.test-helper.ts';
import { SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { Disk } from './lib/disk.ts';
import { type Fault, FaultProxy } from './lib/fault-proxy.ts';
import {
  assertNothingLeft,
  type Blob,
  image,
  type Leftovers,
  privateDir,
  push,
  Registry,
  run,
  takeStock,
  until,
} from './lib/index.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const MIB = 1 << 20;
const random = seeded(41);
const login = { username: 'me', password: 'hunter2-and-more', usesOfToken: 3 };

let checkpoint: FakeCheckpoint;
let registry: Registry;
let before: Leftovers;
let proxy: FaultProxy;
let thaw: ThawDaemon;
let snapshots: SnapshotsClient;
let dockerConfig: string;
/** Of the case that waits for half a minute: it runs beside the others. */
let slow: Promise<void>;

beforeAll(async () => {
  const chunks = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ at: i * MIB, bytes: random.bytes(MIB) }));
  checkpoint = fakeCheckpoint([
    [{ name: 'pages-1.img', size: 12 * MIB, chunks: chunks(12) }],
    [{ name: 'pages-2.img', size: 2 * MIB, chunks: chunks(2) }],
  ]);
  registry = await Registry.start();
  const layers = [...checkpoint.blobs].map(([digest, bytes]): Blob => ({ mediaType: LAYER, digest, bytes }));
  await push(registry.host, 'test/app', '1', image(layers));
  const node = await startSlow();
  slow = stopAndDrip(node).finally(() => node.stop());
  slow.catch(() => {});
});
afterAll(async () => {
  await slow.catch(() => {});
  await registry.stop();
});

beforeEach(async () => {
  before = takeStock();
  proxy = await FaultProxy.start(registry.host);
  for (const { digest } of checkpoint.index.dataLayers) proxy.spoilt.add(digest);
  dockerConfig = join(privateDir('docker'), 'config.json');
  writePassword(login.password);
  thaw = await ThawDaemon.start({ docker_config: dockerConfig });
  snapshots = new SnapshotsClient(thaw.socket);
});
afterEach(async () => {
  snapshots.close();
  await thaw.stop();
  await proxy.stop();
  // umount's own folder stays.
  await assertNothingLeft(before, 5000, [/^files: \/run\/mount/]);
});

function writePassword(password: string): void {
  const auth = Buffer.from(`${login.username}:${password}`).toString('base64');
  writeFileSync(dockerConfig, JSON.stringify({ auths: { [proxy.host]: { auth } } }));
}
const indexLayer = () => [...checkpoint.blobs.keys()][0] ?? '';
/** What containerd asks for the first layer. */
const prepareOn = (client: SnapshotsClient, host: string) =>
  client.prepare(`k8s.io/1/extract-1 ${indexLayer()}`, '', {
    'containerd.io/snapshot.ref': indexLayer(),
    [INDEX_ANNOTATION]: checkpoint.annotation,
    'containerd.io/snapshot/cri.image-ref': `${host}/test/app:1`,
    'containerd.io/snapshot/cri.layer-digest': indexLayer(),
  });
const prepare = () => prepareOn(snapshots, proxy.host);
const begin = () => expect(prepare()).rejects.toMatchObject({ code: Code.alreadyExists });
const complete = (ms = 60_000) => thaw.awaitCheckpoint(checkpoint.id, ms);
const expectRight = (root = thaw.root) => {
  for (const [name, content] of checkpoint.contents) {
    const file = join(root, 'cache', checkpoint.id.slice('sha256:'.length), 'files', name);
    expect(readFileSync(file).equals(content), name).toBe(true);
  }
};

async function startSlow() {
  const proxy = await FaultProxy.start(registry.host);
  for (const { digest } of checkpoint.index.dataLayers) proxy.spoilt.add(digest);
  const thaw = await ThawDaemon.start();
  const snapshots = new SnapshotsClient(thaw.socket);
  const stop = async () => {
    snapshots.close();
    await thaw.stop();
    await proxy.stop();
  };
  return { proxy, thaw, snapshots, stop };
}

async function stopAndDrip({ proxy, thaw, snapshots }: Awaited<ReturnType<typeof startSlow>>): Promise<void> {
  proxy.set({ kind: 'stall', after: 200_000 }, 1);
  await expect(prepareOn(snapshots, proxy.host)).rejects.toMatchObject({ code: Code.alreadyExists });
  await until('the first request', () => proxy.happened === 1);
  proxy.set({ kind: 'drip' }, 1);
  await thaw.awaitCheckpoint(checkpoint.id, 150_000);
  expectRight(thaw.root);
}

/** The error of an attempt that failed. */
const failure = () =>
  until(
    'an attempt to fail',
    () => thaw.events().find(({ msg }) => msg === 'fetch failed')?.['error'],
    60_000,
  );

describe('what a registry does wrong and then right is borne', () => {
  const faults: [string, Fault, number][] = [
    ['a burst of 503', { kind: 'status', status: 503 }, 4],
    ['a burst of 500', { kind: 'status', status: 500 }, 2],
    ['429 with Retry-After', { kind: 'status', status: 429, headers: { 'retry-after': '1' } }, 2],
    ['a connection reset at once', { kind: 'reset', after: 0 }, 3],
    ['a connection reset again and again', { kind: 'reset', after: 700_000 }, 6],
    ['a body that is too short', { kind: 'short', after: 900_000 }, 6],
    ['another range than was asked for', { kind: 'shifted', by: 4096 }, 2],
    ['a wrong bit', { kind: 'corrupt' }, 1],
  ];
  it.each(faults)('%s', async (_, fault, times) => {
    proxy.set(fault, times);
    await begin();
    await complete();
    expectRight();
    expect(proxy.happened).toBe(times);
  });

  it('no answer to HEAD, which is not needed', async () => {
    await begin();
    await complete();
    expect(proxy.seen.filter(({ method }) => method !== 'GET')).toEqual([]);
  });

  it('a whole body for every range', async () => {
    proxy.set({ kind: 'whole' });
    await begin();
    await complete();
    expectRight();
    expect(proxy.happened).toBeGreaterThanOrEqual(2);
  });

  it('addresses of a store that expire', async () => {
    proxy.set({ kind: 'redirect', uses: 1 });
    await begin();
    await complete();
    expectRight();
    // The two ranges of one layer: the address of the first no longer serves the second.
    expect(proxy.happened).toBeGreaterThanOrEqual(3);
  });

  it('tokens that expire in the middle of the download', async () => {
    proxy.login = login;
    proxy.set({ kind: 'reset', after: 700_000 }, 9);
    await begin();
    await complete();
    expectRight();
    expect(proxy.seen.filter(({ at }) => at === 'tokens').length).toBeGreaterThan(3);
  });

  it('an outage of the registry', async () => {
    proxy.set({ kind: 'reset', after: 700_000 }, 1);
    await begin();
    await registry.halt();
    await failure();
    await registry.restart();
    await thaw.want(checkpoint.id, [0], 60_000);
    await complete();
    expectRight();
  });
});

describe('what a registry cannot do is said, and nothing is served', () => {
  it.each<[string, Fault, string]>([
    ['416', { kind: 'status', status: 416 }, 'it is shorter in the registry than the image says'],
    ['a compressed body', { kind: 'encoded' }, 'in a content encoding that was not asked for'],
    ['a bit that is always wrong', { kind: 'corrupt' }, 'is corrupt'],
  ])('%s ends the wait', async (_, fault, message) => {
    proxy.set(fault);
    await begin();
    await expect(complete()).rejects.toMatchObject({
      code: Code.dataLoss,
      message: expect.stringContaining(message),
    });
    expect(existsSync(join(thaw.root, 'cache', checkpoint.id.slice(7), 'complete'))).toBe(false);
  });

  it.each<[string, Fault, string]>([
    ['a loop of redirects', { kind: 'loop' }, 'it was redirected more than 5 times'],
    ['403', { kind: 'status', status: 403 }, 'ask for access to the repository'],
    ['404', { kind: 'status', status: 404 }, 'check the name and tag'],
    [
      '429 for an hour',
      { kind: 'status', status: 429, headers: { 'retry-after': '3600' } },
      'the registry limits requests; wait or log in',
    ],
  ])('%s is waited out', async (_, fault, message) => {
    proxy.set(fault);
    await begin();
    expect(await failure()).toContain(message);
  });

  it('a registry that is down leaves the layer to containerd', async () => {
    await registry.halt();
    expect((await prepare()).length).toBe(1);
    await registry.restart();
  }, 240_000);
});

it('a disk that fills up is said, and what is missing comes once there is room', async () => {
  const disk = await Disk.make('64M');
  const root = join(disk.path, 'root');
  const ballast = join(disk.path, 'ballast');
  mkdirSync(root);
  snapshots.close();
  await thaw.stop();
  thaw = await ThawDaemon.start({}, { root });
  snapshots = new SnapshotsClient(thaw.socket);
  try {
    const { bfree, bsize } = statfsSync(disk.path);
    // Half of it fits.
    await run('fallocate', ['-l', String(bfree * bsize - 7 * MIB), ballast]);
    await begin();
    await expect(complete()).rejects.toMatchObject({
      code: Code.resourceExhausted,
      message: expect.stringContaining('the disk of the node cache is full'),
    });
    rmSync(ballast);
    await thaw.restart();
    await complete();
    expectRight();
  } finally {
    snapshots.close();
    await thaw.halt();
    await disk.remove();
  }
});

describe('credentials', () => {
  it('go to the registry and its token service, not to the store, and are in no log', async () => {
    proxy.login = login;
    proxy.set({ kind: 'redirect', uses: 1 });
    await begin();
    await complete();
    expectRight();
    const stores = proxy.seen.filter(({ at }) => at === 'store');
    expect(stores.length).toBeGreaterThan(0);
    for (const { authorization } of stores) expect(authorization).toBeUndefined();
    const log = readFileSync(thaw.log, 'utf8');
    expect(log).toContain(checkpoint.id);
    const encoded = Buffer.from(`${login.username}:${login.password}`).toString('base64');
    for (const secret of [...proxy.secrets(), login.password, encoded]) expect(log).not.toContain(secret);
  });

  it('that expired stop a fetch until there are new ones', async () => {
    proxy.login = login;
    proxy.set({ kind: 'reset', after: 700_000 });
    await begin();
    await until('the fetch', () => proxy.happened >= 1);
    proxy.changePassword('renewed');
    proxy.set({ kind: 'none' });
    expect(await failure()).toContain(`docker login ${proxy.host}`);
    writePassword('renewed');
    await thaw.want(checkpoint.id, [0], 60_000);
    await complete();
    expectRight();
  });
});

it('a restart with the registry down and no credentials serves all that is here', async () => {
  proxy.login = login;
  await begin();
  await complete();
  await snapshots.prepare('active', '');
  await snapshots.commit('committed', 'active');
  await until('the cache to be on disk', () =>
    existsSync(join(thaw.root, 'cache', checkpoint.id.slice('sha256:'.length), 'complete')),
  );
  const here = await snapshots.list();
  await registry.halt();
  proxy.changePassword('another');
  rmSync(dockerConfig);
  await thaw.restart();
  expect(await snapshots.list()).toEqual(here);
  const [mount] = await snapshots.prepare('above', 'committed');
  expect(mount?.type).toBe('overlay');
  expect((await snapshots.view('view', indexLayer())).length).toBe(1);
  expect((await complete()).fetchedBytes).toBe(0);
  expectRight();
  await registry.restart();
});

it('a body that stops, and one that drips, are borne', async () => {
  await slow;
});
