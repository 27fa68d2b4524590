/**
 * Metadata of snapshots in an embedded transactional store, with the semantics and error codes of containerd's own
 * (snapshots/storage/bolt.go). Called by the overlay snapshotter and by nothing else. Every method is one transaction, or
 * a part of that of many (`together`); what it did, or saw, is on disk once `flushed` says so.
 */
import type { Database, Statement, Transaction } from 'better-sqlite3';
import { Code, describeError } from '../../proto/status.ts';
import { alreadyExists, failedPrecondition, invalidArgument, notFound } from '../error.ts';
import { RecentNames } from '../recent-names.ts';
import { Listing } from './listing.ts';
import { LogFlush } from './log-flush.ts';
import { LogTransfer, TransferThread } from './log-transfer.ts';
import { fromRow, kept, type Row, SELECT } from './row.ts';
import { openDatabase } from './schema.ts';
import type { Kind, Labels, Snapshot, Usage } from './snapshot-info.ts';
import { SpareRoom } from './spare-room.ts';
import { inWords } from './store-error.ts';
import { Together } from './together.ts';
import { updateLabels } from './update-labels.ts';

export type { Directory, Kind, Labels, Snapshot, SnapshotInfo, Usage } from './snapshot-info.ts';
export { Listing };

/** Made once: a text put together anew is hashed anew. */
const FIND = `${SELECT} WHERE s.name = ?`;
const ANCESTORS = `
  WITH RECURSIVE up(id, depth) AS (
    SELECT parent, 1 FROM snapshots WHERE name = ? AND parent IS NOT NULL
    UNION ALL SELECT a.parent, depth + 1 FROM up JOIN snapshots a ON a.id = up.id WHERE a.parent IS NOT NULL
  )
  ${SELECT} JOIN up ON up.id = s.id ORDER BY up.depth`;

export interface NewSnapshot {
  name: string;
  /** Name of the parent, or empty. */
  parent: string;
  kind: Kind;
  labels: Labels;
  /** Nanoseconds since the epoch. */
  now: bigint;
}

export type NewDirectory =
  /** On disk already, under an id of `reserveDirectory`. */
  | { kind: 'own'; id: number; checkpoint?: string; layer?: string; diffId?: string }
  /** That of a committed snapshot of the same layer. */
  | { kind: 'shared'; id: number };

export interface Removed {
  /** Directory that nothing refers to any more. */
  directory: number | undefined;
  /** A lazy layer is mounted there. */
  mounted: boolean;
  /** What the node cache has for it, if this was the last that needed it. */
  cached: string | undefined;
}

export class SnapshotStore {
  readonly #path: string;
  readonly #db: Database;
  /** Made once: that costs as much as a short transaction. */
  readonly #inTransaction: Transaction<(steps: () => unknown) => unknown>;
  readonly #together: Together;
  readonly #statements = new Map<string, Statement>();
  readonly #spare: SpareRoom;
  readonly #log: LogFlush;
  readonly #recent = new RecentNames();
  readonly #thread: TransferThread;
  readonly #transfer: LogTransfer;
  #lastDirectory: number;

  /** `onLogKept`: what is in SQLite's log could not be put into the database, and the log grows until it can. */
  constructor(path: string, onLogKept: (error: unknown) => void = () => {}) {
    this.#path = path;
    this.#spare = new SpareRoom(`${path}-spare`);
    this.#db = this.#evenIfFull(() => inWords(path, () => openDatabase(path)));
    this.#inTransaction = this.#db.transaction((steps: () => unknown) => steps());
    this.#together = new Together({
      transaction: (steps) => void this.#write(steps),
      lost: () => !this.#db.inTransaction,
      turn: () => this.#transfer.turn(),
    });
    this.#log = inWords(path, () => new LogFlush(path));
    this.#thread = new TransferThread(path);
    this.#transfer = new LogTransfer(
      () => this.#thread.run(),
      (error) => {
        // SQLite does it at the end.
        if (this.#db.open) onLogKept(error);
      },
    );
    this.holdSpareRoom();
    const [last] =
      this.#sql<[last: bigint | null]>(
        "SELECT max(seq) FROM sqlite_sequence WHERE name = 'directories'",
      ).get() ?? [];
    this.#lastDirectory = Number(last ?? 0n);
  }

  /** SQLite flushes what is left. */
  close(): void {
    this.#thread.close();
    this.#db.close();
    this.#log.close();
  }

  /**
   * Waits until a power failure can take nothing back that was done, or could be seen, so far; undefined where that is so
   * already. INTERNAL if the disk failed: then only a restart helps.
   */
  flushed(): Promise<void> | undefined {
    return this.#log.done();
  }

  /**
   * The same for what can be seen of one name alone: its row, that there is none, and the snapshots below it, which were
   * written before it.
   */
  flushedOf(name: string): Promise<void> | undefined {
    return this.#log.done(this.#recent.last(name));
  }

  /**
   * Does `steps`, which call methods of this store, at the end of this turn of the event loop, in one transaction with those
   * of all who ask by then: a transaction takes longer than what is done in it. What `steps` throws undoes them alone.
   */
  together<T>(steps: () => T): Promise<T> {
    return this.#together.do(steps);
  }

  /** Throws INTERNAL if the disk failed. */
  check(): void {
    this.#log.check();
  }

  find(name: string): Snapshot | undefined {
    const row = this.#sql<Row>(FIND).get(name);
    return row && fromRow(row);
  }

  /** NOT_FOUND if there is none. */
  get(name: string): Snapshot {
    const snapshot = this.find(name);
    if (!snapshot) throw notFound(`Snapshot "${name}" does not exist`);
    return snapshot;
  }

  /** Of any kind; undefined if there is no such snapshot. */
  directoryOf(name: string): number | undefined {
    const [id] = this.#sql<[bigint]>('SELECT directory FROM snapshots WHERE name = ?').get(name) ?? [];
    return id === undefined ? undefined : Number(id);
  }

  /** The snapshots below one, nearest first. */
  ancestors(name: string): Snapshot[] {
    return this.#sql<Row>(ANCESTORS).all(name).map(fromRow);
  }

  /** An id for a new directory, never given before; no directory up to `above` gets it either. */
  reserveDirectory(above = 0): number {
    this.#lastDirectory = Math.max(this.#lastDirectory, above) + 1;
    return this.#lastDirectory;
  }

  /** NOT_FOUND without the parent, INVALID_ARGUMENT if it is not committed, ALREADY_EXISTS if the name is taken. */
  create(snapshot: NewSnapshot, directory: NewDirectory): Snapshot {
    const { name, kind, now } = snapshot;
    return this.#transaction([name], () => {
      const parent = this.#parentId(snapshot.parent);
      if (this.#has(name)) throw alreadyExists(`Snapshot "${name}" already exists`);
      const { id } = directory;
      if (directory.kind === 'own') {
        const { diffId = null, checkpoint = null, layer = null } = directory;
        this.#sql('INSERT INTO directories (id, diff_id, checkpoint, layer) VALUES (?, ?, ?, ?)').run(
          id,
          diffId,
          checkpoint,
          layer,
        );
      }
      const labels = kept(snapshot.labels);
      this.#sql(
        'INSERT INTO snapshots (name, parent, kind, created, updated, labels, directory) VALUES (?, ?, ?, ?, ?, ?, ?)',
      ).run(name, parent, kind, now, now, JSON.stringify(labels), id);
      if (directory.kind === 'shared') return this.get(name);
      const { diffId, checkpoint, layer } = directory;
      const own = { id, diffId, checkpoint, layer };
      return { name, parent: snapshot.parent, kind, created: now, updated: now, labels, directory: own };
    });
  }

  /** NOT_FOUND without the key, FAILED_PRECONDITION if it is not active, ALREADY_EXISTS if the name is taken. */
  commit(name: string, key: string, given: Labels, now: bigint): Snapshot {
    return this.#transaction([name, key], () => {
      if (this.#has(name)) throw alreadyExists(`Snapshot "${name}" already exists`);
      const active = this.get(key);
      if (active.kind !== 'active')
        throw failedPrecondition(`Cannot commit snapshot "${key}": it is ${active.kind}, not active`);
      const labels = kept(given);
      this.#sql(
        `UPDATE snapshots SET name = ?, kind = 'committed', created = ?, updated = ?, labels = ? WHERE name = ?`,
      ).run(name, now, now, JSON.stringify(labels), key);
      return { ...active, name, kind: 'committed', created: now, updated: now, labels };
    });
  }

  /** NOT_FOUND without the key, FAILED_PRECONDITION if a snapshot lies above it. */
  remove(name: string): Removed {
    const steps = () => {
      const snapshot = this.get(name);
      const child = this.#sql(
        'SELECT 1 FROM snapshots WHERE parent = (SELECT id FROM snapshots WHERE name = ?) LIMIT 1',
      ).get(name);
      if (child) throw failedPrecondition(`Cannot remove snapshot "${name}" with child`);
      this.#sql('DELETE FROM snapshots WHERE name = ?').run(name);
      const { id, checkpoint, layer } = snapshot.directory;
      const needed = checkpoint ?? layer;
      if (this.#sql('SELECT 1 FROM snapshots WHERE directory = ? LIMIT 1').get(id))
        return { directory: undefined, mounted: false, cached: undefined };
      this.#sql('DELETE FROM directories WHERE id = ?').run(id);
      const last = needed !== undefined && this.withCached(needed).length === 0;
      return { directory: id, mounted: layer !== undefined, cached: last ? needed : undefined };
    };
    return this.#evenIfFull(() => this.#transaction([name], steps));
  }

  /** Space for a removal when the disk is full; taken anew after it was used up and there is room again. */
  holdSpareRoom(): void {
    this.#spare.hold();
  }

  /** See updateLabels. The parent that a client gives is ignored. */
  update(name: string, labels: Labels, mask: readonly string[], now: bigint): Snapshot {
    return this.#transaction([name], () => {
      const snapshot = this.get(name);
      const updated = kept(updateLabels(snapshot.labels, labels, mask));
      this.#sql('UPDATE snapshots SET labels = ?, updated = ? WHERE name = ?').run(
        JSON.stringify(updated),
        now,
        name,
      );
      return { ...snapshot, labels: updated, updated: now };
    });
  }

  /** Disk use as it was when the directory was committed; undefined if it was not counted yet. */
  usage(directory: number): Usage | undefined {
    const [size, inodes] =
      this.#sql<[size: bigint | null, inodes: bigint | null]>(
        'SELECT size, inodes FROM directories WHERE id = ?',
      ).get(directory) ?? [];
    return size == null || inodes == null ? undefined : { size, inodes };
  }

  setUsage(directory: number, usage: Usage): void {
    this.#transaction([], () =>
      this.#sql('UPDATE directories SET size = ?, inodes = ? WHERE id = ?').run(
        usage.size,
        usage.inodes,
        directory,
      ),
    );
  }

  /** Records which layer a directory holds. The caller has proven it. */
  setDiffId(directory: number, diffId: string): void {
    this.#transaction([], () =>
      this.#sql('UPDATE directories SET diff_id = ? WHERE id = ? AND diff_id IS NULL').run(diffId, directory),
    );
  }

  /** Committed snapshots that end with `/<suffix>` or are it. */
  committedAs(suffix: string): Snapshot[] {
    return this.#sql<Row>(
      `${SELECT} WHERE s.kind = 'committed' AND (s.name = ? OR substr(s.name, -length(?) - 1) = '/' || ?)`,
    )
      .all(suffix, suffix, suffix)
      .map(fromRow);
  }

  /** Committed snapshots whose layer is known. */
  committedLayers(): Snapshot[] {
    return this.#sql<Row>(`${SELECT} WHERE s.kind = 'committed' AND ${inDirectories('diff_id IS NOT NULL')}`)
      .all()
      .map(fromRow);
  }

  /** Snapshots that stand for layers of one checkpoint. */
  withCheckpoint(checkpoint: string): Snapshot[] {
    return this.#sql<Row>(`${SELECT} WHERE ${inDirectories('checkpoint = ?')} ORDER BY s.id`)
      .all(checkpoint)
      .map(fromRow);
  }

  /** Snapshots that need an entry of the node cache: layers of a checkpoint, or a lazy layer. */
  withCached(id: string): Snapshot[] {
    return this.#sql<Row>(`${SELECT} WHERE ${inDirectories('checkpoint = ? OR layer = ?')} ORDER BY s.id`)
      .all(id, id)
      .map(fromRow);
  }

  /** Snapshots of lazy layers. */
  lazyLayers(): Snapshot[] {
    return this.#sql<Row>(`${SELECT} WHERE ${inDirectories('layer IS NOT NULL')} ORDER BY s.id`)
      .all()
      .map(fromRow);
  }

  withDirectory(directory: number): Snapshot[] {
    return this.#sql<Row>(`${SELECT} WHERE s.directory = ?`).all(directory).map(fromRow);
  }

  /** Active ones and views. */
  uncommitted(): Snapshot[] {
    return this.#sql<Row>(`${SELECT} WHERE s.kind <> 'committed'`).all().map(fromRow);
  }

  directories(): Set<number> {
    const rows = this.#sql<[id: bigint]>('SELECT id FROM directories').all();
    return new Set(rows.map(([id]) => Number(id)));
  }

  /** The caller closes it. */
  list(): Listing {
    return new Listing(this.#path);
  }

  #has(name: string): boolean {
    return this.#sql('SELECT 1 FROM snapshots WHERE name = ?').get(name) !== undefined;
  }

  #parentId(name: string): bigint | null {
    if (name === '') return null;
    const row = this.#sql<[id: bigint, kind: Kind]>('SELECT id, kind FROM snapshots WHERE name = ?').get(
      name,
    );
    if (!row) throw notFound(`Parent snapshot "${name}" does not exist`);
    const [id, kind] = row;
    if (kind !== 'committed')
      throw invalidArgument(`Cannot use snapshot "${name}" as parent: it is ${kind}, not committed`);
    return id;
  }

  /** Once more with the spare room, if there was none. A full disk ends the transaction of many: each is done again, alone. */
  #evenIfFull<T>(steps: () => T): T {
    try {
      return steps();
    } catch (error) {
      if (describeError(error).code !== Code.resourceExhausted || this.#together.busy) throw error;
      this.#spare.giveUp();
      return steps();
    }
  }

  /** `names`: whose rows it makes, changes or takes away. */
  #transaction<T>(names: readonly string[], steps: () => T): T {
    this.#log.check();
    const result = this.#write(steps);
    this.#recent.touched(names, this.#log.wrote(), this.#log.flushed);
    this.#transfer.wrote();
    return result;
  }

  /** A savepoint where there is a transaction. */
  #write<T>(steps: () => T): T {
    // IMMEDIATE: the write lock is taken before anything is read.
    return inWords(this.#path, () => this.#inTransaction.immediate(steps)) as T;
  }

  /** Rows are arrays, see Row. */
  #sql<R>(source: string): Statement<unknown[], R> {
    let statement = this.#statements.get(source);
    if (!statement) {
      statement = this.#db.prepare(source);
      if (statement.reader) statement.raw();
      this.#statements.set(source, statement);
    }
    return statement as Statement<unknown[], R>;
  }
}

function inDirectories(condition: string): string {
  return `s.directory IN (SELECT id FROM directories WHERE ${condition})`;
}
