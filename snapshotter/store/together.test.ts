/** Steps of many in one transaction of a real store. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { SnapshotStore } from './index.ts';

const LOG_HEADER = 32;
const FRAME_HEADER = 24;
const PAGE = 4096;

let dir: string;
let store: SnapshotStore;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-together-'));
  store = new SnapshotStore(join(dir, 'meta.db'));
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true });
});

const create = (name: string, parent = '') =>
  store.together(() =>
    store.create(
      { name, parent, kind: 'active', labels: {}, now: 1n },
      { kind: 'own', id: store.reserveDirectory() },
    ),
  );
const outcomes = async (asked: Promise<unknown>[]) =>
  (await Promise.allSettled(asked)).map((one) => (one.status === 'fulfilled' ? 'done' : one.reason.message));
/** The last frame of a transaction says how large the database is then. Source: sqlite.org/fileformat2.html, 4.1. */
const transactions = () => {
  const log = readFileSync(join(dir, 'meta.db-wal'));
  let count = 0;
  for (let at = LOG_HEADER; at < log.length; at += FRAME_HEADER + PAGE)
    if (log.readUInt32BE(at + 4) > 0) count++;
  return count;
};
const trigger = (how: 'ABORT' | 'ROLLBACK') => {
  const db = new Database(join(dir, 'meta.db'));
  db.exec(
    `CREATE TRIGGER refuse BEFORE INSERT ON snapshots WHEN NEW.name = 'bad' BEGIN SELECT RAISE(${how}, 'refused'); END`,
  );
  db.close();
};

test('what is asked for in one turn is one transaction, in the order in which it was asked for', async () => {
  const before = transactions();
  const order: string[] = [];
  const note = (name: string) => create(name).then(() => order.push(name));
  await Promise.all([note('a'), note('b'), note('c')]);
  expect(order).toEqual(['a', 'b', 'c']);
  expect(transactions()).toBe(before + 1);
  await create('d');
  expect(transactions()).toBe(before + 2);
});

test('steps see what was done before them in the same turn', async () => {
  const committed = store.together(() => store.commit('layer', 'key', {}, 2n));
  await expect(committed).rejects.toMatchObject({ code: Code.notFound });
  const [, layer, child] = await Promise.all([
    create('key'),
    store.together(() => store.commit('layer', 'key', {}, 2n)),
    create('child', 'layer'),
  ]);
  expect(layer.kind).toBe('committed');
  expect(child.parent).toBe('layer');
});

test('steps that fail undo themselves, and nothing of others', async () => {
  const twice = [create('a'), create('a'), create('b', 'missing'), create('c')];
  expect(await outcomes(twice)).toEqual([
    'done',
    'Snapshot "a" already exists',
    'Parent snapshot "missing" does not exist',
    'done',
  ]);
  trigger('ABORT');
  const refused = await outcomes([create('d'), create('bad'), create('e')]);
  expect(refused).toEqual(['done', expect.stringContaining('refused'), 'done']);
  expect(store.directories().size).toBe(4);
});

test('where an error took the whole transaction, the others are done again', async () => {
  trigger('ROLLBACK');
  const refused = await outcomes([create('a'), create('bad'), create('b')]);
  expect(refused).toEqual(['done', expect.stringContaining('refused'), 'done']);
  expect(store.find('a')).toBeDefined();
  expect(store.find('bad')).toBeUndefined();
  expect(store.find('b')).toBeDefined();
  expect(store.directories().size).toBe(2);
});
