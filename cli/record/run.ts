import { setTimeout as sleep } from 'node:timers/promises';
import { Code } from '../../proto/status.ts';
import type { RecordOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { formatReadOrder } from '../convert-lazy/read-order.ts';
import { CliError } from '../error.ts';
import { withDaemon } from '../node/daemon.ts';

const END_MS = 10_000;

/** `thaw record`. */
export async function runRecord({ socket, seconds }: RecordOptions, context: Context): Promise<void> {
  const { signal } = context;
  await withDaemon(socket, signal, (daemon) => daemon.recordReads());
  await sleep(seconds * 1000, undefined, { signal }).catch(() => undefined);
  // Also after an interruption: nothing is to be recorded for longer.
  const reads = await withDaemon(socket, AbortSignal.timeout(END_MS), (daemon) => daemon.endReads());
  if (signal.aborted) throw new CliError(Code.canceled, 'Interrupted');
  const read = reads.filter(({ frames }) => frames.length > 0);
  if (read.length === 0)
    throw new CliError(
      Code.failedPrecondition,
      'Nothing was read of lazy layers: start a container of an image with lazy layers meanwhile',
    );
  context.print(formatReadOrder(read));
}
