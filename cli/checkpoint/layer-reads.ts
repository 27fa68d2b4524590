/** What a trial restore reads of the lazy layers below it, so that another node brings that first. */
import type { LayerReads } from '../../checkpoint/index-format.ts';
import { parseLayerAnnotation } from '../../checkpoint/lazy/index-layer.ts';
import { describeError } from '../../proto/status.ts';
import type { Context } from '../context.ts';
import { withDaemon } from '../node/daemon.ts';
import { DAEMON_SOCKET } from '../node/socket.ts';

const END_MS = 10_000;

/**
 * Does `work` while the daemon notes what containers that are started read of these layers (annotations, by blob digest).
 * Without the daemon, or where somebody else records, there are no reads and a warning.
 */
export async function whileRecording<T>(
  lazy: ReadonlyMap<string, string>,
  signal: AbortSignal,
  warn: Context['warn'],
  work: () => Promise<T>,
): Promise<{ result: T; layerReads: LayerReads[] }> {
  const ids = new Set([...lazy.values()].map((annotation) => parseLayerAnnotation(annotation).digest));
  if (ids.size === 0) return { result: await work(), layerReads: [] };
  const warned = (error: unknown) =>
    warn(`warning: the image does not say what is read first: ${describeError(error).message}`);
  const recording = await withDaemon(DAEMON_SOCKET, signal, (daemon) => daemon.recordReads()).then(
    () => true,
    (error: unknown) => {
      warned(error);
      return false;
    },
  );
  if (!recording) return { result: await work(), layerReads: [] };
  let layerReads: LayerReads[] = [];
  const end = async () => {
    // Also after an interruption: containers that start later are not to be looked at.
    const reads = await withDaemon(DAEMON_SOCKET, AbortSignal.timeout(END_MS), (daemon) => daemon.endReads());
    layerReads = reads.filter(({ layer, frames }) => ids.has(layer) && frames.length > 0);
  };
  const result = await work().finally(() => end().catch(warned));
  return { result, layerReads };
}
