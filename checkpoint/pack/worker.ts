/** Entry of a packing thread: takes tasks, answers each with one result. */
import { parentPort, workerData } from 'node:worker_threads';
import { finishLayer } from './finish-layer.ts';
import { packLane } from './pack-lane.ts';
import { SharedState, type WorkerResult, type WorkerSetup, type WorkerTask } from './protocol.ts';

const setup = workerData as WorkerSetup;
const shared = new SharedState(setup.shared);

function run(task: WorkerTask): WorkerResult {
  try {
    return task.kind === 'pack'
      ? packLane(setup, task.lane, task.pieces, shared)
      : finishLayer(task, task.ordinal, shared);
  } catch (caught) {
    // An Error's own fields do not survive the way to the other thread.
    const error: NodeJS.ErrnoException = caught instanceof Error ? caught : new Error(String(caught));
    return { kind: 'failed', message: error.message, code: error.code, syscall: error.syscall };
  }
}

parentPort?.on('message', (task: WorkerTask) => {
  const result = run(task);
  const moved = result.kind === 'packed' ? [result.records.buffer, result.counts.buffer] : [];
  parentPort?.postMessage(result, moved);
});
