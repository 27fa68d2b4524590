/** List over a real socket, with clients that do what clients should not. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, type ClientReadableStream, credentials } from '@grpc/grpc-js';
import Database from 'better-sqlite3';
import pino from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { Directories, OverlaySnapshotter } from '../overlay/index.ts';
import { SnapshotStore } from '../store/index.ts';
import { loadService } from './clients.ts';
import { SnapshotsServer } from './index.ts';
import type { ListResponse } from './messages.ts';
import { SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE } from './proto-files.ts';
import { MAX_MESSAGE } from './wire.ts';

const COUNT = 3_000;

let dir: string;
let store: SnapshotStore;
let server: SnapshotsServer;
let client: Client;
let log: string[];

const start = async (listStallMs: number) => {
  const snapshotter = new OverlaySnapshotter({
    store,
    directories: new Directories(join(dir, 'snapshots'), native),
    mountOptions: [],
    now: () => 1n,
    events: { onNotDeleted: () => {}, onRemade: () => {}, onNotRemade: () => {}, onLost: () => {} },
  });
  server = new SnapshotsServer({
    snapshotter,
    prepare: (key, parent, labels) => snapshotter.create('active', key, parent, labels),
    remove: async (key) => {
      await snapshotter.remove(key);
    },
    usage: (key) => snapshotter.usage(key),
    listStallMs,
    log: pino({ level: 'debug' }, { write: (line: string) => void log.push(line) }),
  });
  await server.listen({ path: join(dir, 's') });
  client = new (loadService(SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE))(
    `unix:${join(dir, 's')}`,
    credentials.createInsecure(),
    { 'grpc.max_receive_message_length': MAX_MESSAGE },
  );
};
const list = (filters: string[] = []) =>
  (client as unknown as { List(request: object): ClientReadableStream<ListResponse> }).List({ filters });
/** Whether nobody reads the database: then its log can be emptied. */
const logIsFree = () => {
  const db = new Database(join(dir, 'meta.db'));
  const [{ busy }] = db.pragma('wal_checkpoint(TRUNCATE)') as [{ busy: number }];
  db.close();
  return busy === 0;
};
const names = async (stream: ClientReadableStream<ListResponse>) => {
  const found: string[] = [];
  for await (const { info } of stream as AsyncIterable<ListResponse>)
    found.push(...info.map(({ name }) => name));
  return found;
};

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-list-'));
  mkdirSync(join(dir, 'snapshots'));
  log = [];
  store = new SnapshotStore(join(dir, 'meta.db'));
  // More than any socket and window holds.
  const db = new Database(join(dir, 'meta.db'));
  const label = 'x'.repeat(2_000);
  db.transaction(() => {
    for (let i = 1; i <= COUNT; i++) {
      db.prepare('INSERT INTO directories (id) VALUES (?)').run(i);
      db.prepare(
        `INSERT INTO snapshots (name, kind, created, updated, labels, directory) VALUES (?, 'active', 1, 1, ?, ?)`,
      ).run(`s${i}`, JSON.stringify({ label }), i);
    }
  })();
  db.close();
});
afterEach(async () => {
  client.close();
  await server.close(0);
  store.close();
  rmSync(dir, { recursive: true });
});

test('a client that stops reading holds nothing of the database, and no other client', async () => {
  await start(60_000);
  const stalled = list();
  await new Promise((resolve) => stalled.once('readable', resolve));
  store.remove('s1');
  expect(await names(list(['name==s2']))).toEqual(['s2']);
  expect(logIsFree()).toBe(true);
  // It goes on as of the moment it began.
  const found = await names(stalled);
  expect(found.length).toBe(COUNT);
  expect(found).toContain('s1');
});

test('a client that reads nothing for too long is let go', async () => {
  await start(50);
  const stalled = list();
  const ended = new Promise((resolve) => stalled.once('status', resolve));
  stalled.on('error', () => {});
  await new Promise((resolve) => stalled.once('readable', resolve));
  // The client reads what is left for it only after the server gave up.
  await expect.poll(() => log.join(''), { timeout: 30_000 }).toContain('the client read nothing for 50 ms');
  stalled.resume();
  expect(await ended).toMatchObject({ code: Code.deadlineExceeded });
});

test('a client that goes away leaves nothing behind', async () => {
  await start(60_000);
  for (let i = 0; i < 20; i++) {
    const stream = list();
    stream.on('error', () => {});
    if (i % 2 === 0) await new Promise((resolve) => stream.once('readable', resolve));
    stream.cancel();
  }
  expect(await names(list(['name==s2']))).toEqual(['s2']);
  await expect.poll(logIsFree).toBe(true);
  expect(await names(list())).toHaveLength(COUNT);
});

test('a filter that cannot be parsed is InvalidArgument', async () => {
  await start(60_000);
  await expect(names(list(['name==']))).rejects.toMatchObject({ code: Code.invalidArgument });
});

test('snapshots with many labels come in messages that a client takes', async () => {
  const db = new Database(join(dir, 'meta.db'));
  // A hundred of them are longer than a message may be.
  const label = 'ü'.repeat(100_000);
  db.prepare('UPDATE snapshots SET labels = ? WHERE directory <= 100').run(
    JSON.stringify({ label, large: 'x' }),
  );
  db.close();
  await start(60_000);
  expect(await names(list(['labels.large']))).toHaveLength(100);
});
