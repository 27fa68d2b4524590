/** A consistent walk over all snapshots while other calls change them: a read transaction of its own. */
import Database from 'better-sqlite3';
import { fromRow, type Row, SELECT } from './row.ts';
import type { Snapshot } from './snapshot-info.ts';

export class Listing {
  readonly #db: Database.Database;
  readonly #page: Database.Statement<[number | bigint, number], Row>;
  #last = 0n;

  constructor(path: string) {
    this.#db = new Database(path, { readonly: true });
    this.#db.defaultSafeIntegers(true);
    this.#page = this.#db
      .prepare<[number | bigint, number], Row>(`${SELECT} WHERE s.id > ? ORDER BY s.id LIMIT ?`)
      .raw();
    // In WAL mode a read transaction sees the state of its first read until it ends.
    this.#db.exec('BEGIN');
  }

  /** The next snapshots in order of creation; empty at the end. */
  next(count: number): Snapshot[] {
    const rows = this.#page.all(this.#last, count);
    this.#last = rows.at(-1)?.[0] ?? this.#last;
    return rows.map(fromRow);
  }

  close(): void {
    this.#db.close();
  }
}
