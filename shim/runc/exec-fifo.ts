/**
 * Lets the init of a created container run, as `runc start` does. `runc create` leaves the init waiting for a reader of
 * the fifo `exec.fifo` in the container's state directory; it then writes one byte and becomes the container's program,
 * and whoever read it removes the fifo, which is how runc tells a created container from a running one. Doing that
 * here saves the start of a program of 10 MB in the way of every container.
 */
import { unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Addon } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';

export type ExecFifoCalls = Pick<Addon, 'fifoRead' | 'relayStop'>;

export interface InitWaiting {
  /** `<runc's root>/<id>`. */
  stateDir: string;
  /** Settles when the init has ended. */
  exited: Promise<unknown>;
  deadlineMs: number;
}

/** False if there is no such fifo: only runc can say why. Throws if the init ended, or did not answer in time. */
export async function letInitRun(init: InitWaiting, calls: ExecFifoCalls): Promise<boolean> {
  const fifo = join(init.stateDir, 'exec.fifo');
  const { promise, resolve, reject } = Promise.withResolvers<bigint>();
  let reader: number;
  try {
    reader = calls.fifoRead(fifo, (error, bytes) => (error ? reject(error) : resolve(bytes ?? 0n)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    calls.relayStop(reader);
  }, init.deadlineMs);
  // Its byte may lie in the fifo although it has ended since: what was written counts.
  void init.exited.then(() => calls.relayStop(reader));
  const bytes = await promise.finally(() => clearTimeout(timer));
  if (bytes > 0n) {
    remove(fifo);
    return true;
  }
  if (late)
    throw new ShimError(
      Code.deadlineExceeded,
      `OCI runtime start failed: the container's init did not answer within ${init.deadlineMs} ms`,
    );
  throw new ShimError(Code.unknown, 'OCI runtime start failed: container process is already dead');
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    // `runc delete --force` of somebody else came in between.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
