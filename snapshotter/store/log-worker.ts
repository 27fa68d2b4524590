/** The thread of TransferThread. */
import { parentPort, workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';

if (!parentPort) throw new Error('This program runs as a thread of thaw-snapshotter only');
const port = parentPort;

port.on('message', () => {
  const db = new Database(workerData as string, { fileMustExist: true });
  try {
    // As the connection of the daemon: the log is flushed before the database is written, and that before it is done.
    db.pragma('synchronous = NORMAL');
    const [result] = db.pragma('wal_checkpoint(PASSIVE)') as [{ log: number }];
    port.postMessage(result.log);
  } finally {
    db.close();
  }
});
