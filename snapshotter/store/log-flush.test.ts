import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { LogFlush } from './log-flush.ts';

let dir: string;
let db: Database.Database;
let log: LogFlush;
/** Flushes that were begun, to be ended in order. */
let begun: PromiseWithResolvers<void>[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-log-'));
  db = new Database(join(dir, 'meta.db'));
  db.pragma('journal_mode = WAL');
  db.exec('CREATE TABLE t (x)');
  begun = [];
  log = new LogFlush(join(dir, 'meta.db'), () => {
    const flush = Promise.withResolvers<void>();
    begun.push(flush);
    return flush.promise;
  });
});
afterEach(() => {
  log.close();
  db.close();
  rmSync(dir, { recursive: true });
});

const order: string[] = [];
const waiting = (name: string) => log.done()?.then(() => order.push(name));
const turn = () => new Promise((resolve) => setImmediate(resolve));

test('nothing is waited for where nothing was written', () => {
  expect(log.done()).toBeUndefined();
  expect(begun.length).toBe(0);
});

test('who writes while a flush runs waits for the next one, together with the others', async () => {
  order.length = 0;
  log.wrote();
  const first = waiting('first');
  log.wrote();
  const others = [waiting('second'), waiting('reader')];
  log.wrote();
  others.push(waiting('third'));
  expect(begun.length).toBe(1);
  begun[0]?.resolve();
  await first;
  await turn();
  expect(order).toEqual(['first']);
  expect(begun.length).toBe(2);
  begun[1]?.resolve();
  await Promise.all(others);
  expect(order).toEqual(['first', 'second', 'reader', 'third']);
  expect(log.done()).toBeUndefined();
});

test('once a flush failed nothing succeeds any more', async () => {
  log.wrote();
  const first = expect(log.done()).rejects.toMatchObject({
    code: Code.internal,
    message: expect.stringMatching(/^Cannot flush ".*meta\.db-wal": EIO.*restart thaw-snapshotter$/),
  });
  log.wrote();
  const second = expect(log.done()).rejects.toMatchObject({ code: Code.internal });
  begun[0]?.reject(new Error('EIO: i/o error'));
  await first;
  await second;
  expect(begun.length).toBe(1);
  expect(() => log.done()).toThrow('restart thaw-snapshotter');
  expect(() => log.check()).toThrow('restart thaw-snapshotter');
});
