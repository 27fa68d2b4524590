/** A server that ends while another one listens on the same socket: clients notice nothing. */
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { native } from '../../native/index.ts';
import { SnapshotsClient } from '../../test/conformance/snapshots-client.ts';
import { Directories, OverlaySnapshotter } from '../overlay/index.ts';
import { SnapshotStore } from '../store/index.ts';
import { SnapshotsServer } from './index.ts';

let dir: string;
let store: SnapshotStore;
let snapshotter: OverlaySnapshotter;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-handover-'));
  mkdirSync(join(dir, 'snapshots'));
  store = new SnapshotStore(join(dir, 'meta.db'));
  snapshotter = new OverlaySnapshotter({
    store,
    directories: new Directories(join(dir, 'snapshots'), native),
    mountOptions: [],
    now: () => 1n,
    events: { onNotDeleted: () => {}, onRemade: () => {}, onNotRemade: () => {}, onLost: () => {} },
  });
});
afterEach(async () => {
  await snapshotter.settle();
  store.close();
  rmSync(dir, { recursive: true });
});

/** A descriptor that listens, and that nobody accepts on. */
async function held(path: string): Promise<number> {
  const server = createServer().listen(path);
  await once(server, 'listening');
  const fd = native.duplicate((server as unknown as { _handle: { fd: number } })._handle.fd);
  renameSync(path, `${path}.held`);
  await new Promise((done) => server.close(done));
  renameSync(`${path}.held`, path);
  return fd;
}

const serve = async (fd: number) => {
  const server = new SnapshotsServer({
    snapshotter,
    prepare: (key, parent, labels) => snapshotter.create('active', key, parent, labels),
    remove: async (key) => {
      await snapshotter.remove(key);
    },
    usage: (key) => snapshotter.usage(key),
    log: pino({ level: 'silent' }),
  });
  await server.listen({ fd });
  return server;
};

test('no call fails while servers take each other over', async () => {
  const path = join(dir, 's');
  const socket = await held(path);
  let server = await serve(native.duplicate(socket));
  for (let i = 0; i < 300; i++) await snapshotter.create('active', `there-${i}`, '', {});
  const failures: string[] = [];
  let calls = 0;
  let stopped = false;
  const clients = [0, 1, 2].map(() => new SnapshotsClient(path));
  const loops = clients.flatMap((client, at) => {
    const loop = async (call: (n: number) => Promise<unknown>) => {
      for (let n = 0; !stopped; n++, calls++)
        await call(n).catch((error: unknown) => failures.push(String(error)));
    };
    return [
      loop(() => client.list()),
      loop(() => client.stat('there-1')),
      loop((n) => client.prepare(`${at}-${n}`, '').then(() => client.remove(`${at}-${n}`))),
    ];
  });
  for (let i = 0; i < 5; i++) {
    const before = calls;
    await expect.poll(() => calls, { timeout: 20_000 }).toBeGreaterThan(before + 50);
    const next = await serve(native.duplicate(socket));
    await server.close(5_000);
    server = next;
  }
  stopped = true;
  await Promise.all(loops);
  for (const client of clients) client.close();
  await server.close(5_000);
  expect(failures).toEqual([]);
});
