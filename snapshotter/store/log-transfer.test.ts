import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { beforeEach, describe, expect, test } from 'vitest';
import { LogTransfer, TransferThread } from './log-transfer.ts';

const EVERY = 250;
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('when', () => {
  /** Transfers that were begun, to be ended in order. */
  let begun: PromiseWithResolvers<number>[];
  let transfer: LogTransfer;
  let failures: unknown[];
  const write = (times: number) => {
    for (let i = 0; i < times; i++) transfer.wrote();
  };
  beforeEach(() => {
    begun = [];
    failures = [];
    transfer = new LogTransfer(
      () => {
        const one = Promise.withResolvers<number>();
        begun.push(one);
        return one.promise;
      },
      (error) => failures.push(error),
    );
  });

  test('after so many transactions, one at a time, and nobody waits', async () => {
    write(EVERY - 1);
    expect(begun.length).toBe(0);
    write(EVERY);
    expect(begun.length).toBe(1);
    expect(transfer.turn()).toBeUndefined();
    begun[0]?.resolve(1_000);
    await transfer.settle();
    write(EVERY);
    expect(begun.length).toBe(2);
  });

  test('writers wait for one where the log got long', async () => {
    write(EVERY);
    begun[0]?.resolve(5_000);
    await turn();
    expect(begun.length).toBe(2);
    let waited = false;
    const waiting = transfer.turn()?.then(() => {
      waited = true;
    });
    await turn();
    expect(waited).toBe(false);
    begun[1]?.resolve(5_000);
    await waiting;
    expect(transfer.turn()).toBeUndefined();
  });

  test('again after one that failed, and whoever waited for it goes on', async () => {
    write(EVERY);
    begun[0]?.reject(new Error('EIO'));
    await transfer.settle();
    write(EVERY);
    begun[1]?.resolve(5_000);
    await turn();
    const waiting = transfer.turn();
    begun[2]?.reject(new Error('EIO'));
    await waiting;
    await transfer.settle();
    expect(transfer.turn()).toBeUndefined();
    expect(failures.map(String)).toEqual(['Error: EIO', 'Error: EIO']);
  });
});

test('the log is written from its beginning again, also while others read and write', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'thaw-transfer-'));
  const path = join(dir, 'meta.db');
  const db = new Database(path);
  const thread = new TransferThread(path);
  try {
    db.pragma('journal_mode = WAL');
    db.pragma('wal_autocheckpoint = 0');
    db.exec('CREATE TABLE t (x)');
    const insert = db.prepare('INSERT INTO t VALUES (zeroblob(4000))');
    for (let i = 0; i < 100; i++) insert.run();
    const log = statSync(`${path}-wal`).size;
    const running = thread.run();
    insert.run();
    // All the pages, and what was written meanwhile.
    expect(await running).toBeGreaterThan(100);
    await thread.run();
    for (let i = 0; i < 50; i++) insert.run();
    expect(statSync(`${path}-wal`).size).toBeLessThan(log * 1.2);
    thread.close();
    expect(db.prepare('SELECT count(*) AS n FROM t').get()).toEqual({ n: 151 });
    // It starts another thread.
    expect(await thread.run()).toBeGreaterThan(0);
  } finally {
    thread.close();
    db.close();
    rmSync(dir, { recursive: true });
  }
});
