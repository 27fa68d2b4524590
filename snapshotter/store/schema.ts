/** Tables of meta.db and how they come about. */
import Database from 'better-sqlite3';
import { failedPrecondition } from '../error.ts';

const VERSION = 2;

// AUTOINCREMENT: an id is never given twice, so a directory that outlived its row is never taken for a new one.
const TABLES = `
  CREATE TABLE directories (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    diff_id TEXT,
    checkpoint TEXT,
    layer TEXT,
    size INTEGER,
    inodes INTEGER
  ) STRICT;
  CREATE INDEX directories_diff_id ON directories(diff_id) WHERE diff_id IS NOT NULL;
  CREATE INDEX directories_checkpoint ON directories(checkpoint) WHERE checkpoint IS NOT NULL;
  CREATE INDEX directories_layer ON directories(layer) WHERE layer IS NOT NULL;
  CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES snapshots(id),
    kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    labels TEXT NOT NULL,
    directory INTEGER NOT NULL REFERENCES directories(id)
  ) STRICT;
  CREATE INDEX snapshots_parent ON snapshots(parent);
  CREATE INDEX snapshots_directory ON snapshots(directory);
`;

// Lazy layers. A daemon before them would show their directories empty, so it must refuse this database.
const FROM_VERSION_1 = `
  ALTER TABLE directories ADD COLUMN layer TEXT;
  CREATE INDEX directories_layer ON directories(layer) WHERE layer IS NOT NULL;
`;

/** Opens meta.db, making it if it is not there. FAILED_PRECONDITION if a newer version of this program made it. */
export function openDatabase(path: string): Database.Database {
  const db = new Database(path);
  try {
    // Timestamps in nanoseconds do not fit into a double.
    db.defaultSafeIntegers(true);
    db.pragma('journal_mode = WAL');
    // A commit does not wait for the disk; LogFlush does, off the event loop.
    db.pragma('synchronous = NORMAL');
    // LogTransfer does.
    db.pragma('wal_autocheckpoint = 0');
    db.pragma('foreign_keys = ON');
    migrate(db, path);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function migrate(db: Database.Database, path: string): void {
  const version = Number(db.pragma('user_version', { simple: true }));
  if (version === VERSION) return;
  if (version !== 0 && version !== 1)
    throw failedPrecondition(
      `Cannot use "${path}": it has version ${version}, this program knows version ${VERSION}; install the newer program again`,
    );
  db.transaction(() => {
    db.exec(version === 0 ? TABLES : FROM_VERSION_1);
    db.pragma(`user_version = ${VERSION}`);
  })();
}
