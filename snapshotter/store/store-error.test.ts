import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { Code, describeError } from '../../proto/status.ts';
import { inWords } from './store-error.ts';

const caught = (steps: () => unknown) => {
  try {
    inWords('/var/lib/thaw/meta.db', steps);
  } catch (error) {
    return describeError(error);
  }
  return expect.unreachable();
};

test('a full disk is RESOURCE_EXHAUSTED and says what to do', () => {
  const db = new Database(':memory:');
  db.exec('CREATE TABLE t (x)');
  db.pragma(`max_page_count = ${db.pragma('page_count', { simple: true })}`);
  const insert = db.prepare('INSERT INTO t VALUES (zeroblob(100000))');
  expect(caught(() => insert.run())).toMatchObject({
    code: Code.resourceExhausted,
    message: expect.stringContaining('the disk is full; remove images'),
    context: { sqlite: 'SQLITE_FULL' },
  });
  db.close();
});

test.each([
  ['SQLITE_BUSY_SNAPSHOT', Code.unavailable],
  ['SQLITE_CORRUPT_INDEX', Code.dataLoss],
  ['SQLITE_NOTADB', Code.dataLoss],
  ['SQLITE_IOERR_FSYNC', Code.internal],
])('%s has a code of its own', (sqlite, code) => {
  expect(
    caught(() => {
      throw new Database.SqliteError('said by SQLite', sqlite);
    }),
  ).toMatchObject({ code, context: { sqlite } });
});

test('what is no error of SQLite stays as it is', () => {
  const error = new Error('other');
  expect(() =>
    inWords('x', () => {
      throw error;
    }),
  ).toThrow(error);
});
