/** What SQLite could not do, with a code that callers know and in words that help. Source: sqlite.org/rescode.html. */
import Database from 'better-sqlite3';
import { Code } from '../../proto/status.ts';
import { noSpace, SnapshotError } from '../error.ts';

/** Runs `steps` on the database at `path`. */
export function inWords<T>(path: string, steps: () => T): T {
  try {
    return steps();
  } catch (caught) {
    throw caught instanceof Database.SqliteError ? storeError(path, caught) : caught;
  }
}

function storeError(path: string, cause: InstanceType<typeof Database.SqliteError>): SnapshotError {
  const options = { cause, context: { sqlite: cause.code } };
  // Extended codes are SQLITE_<class>_<detail>.
  switch (/^SQLITE_[A-Z]+/.exec(cause.code)?.[0]) {
    case 'SQLITE_FULL':
      return noSpace(path, options);
    case 'SQLITE_BUSY':
    case 'SQLITE_LOCKED':
      return new SnapshotError(
        Code.unavailable,
        `Cannot use "${path}": another program has locked it`,
        options,
      );
    case 'SQLITE_CORRUPT':
    case 'SQLITE_NOTADB':
      return new SnapshotError(
        Code.dataLoss,
        `Cannot use "${path}": it is damaged (${cause.message}); restore it, or remove it together with "snapshots" beside it and pull all images again`,
        options,
      );
    default:
      return new SnapshotError(
        Code.internal,
        `Cannot use "${path}": ${cause.message} (${cause.code})`,
        options,
      );
  }
}
