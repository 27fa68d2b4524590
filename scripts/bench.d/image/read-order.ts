/** What a cold start reads of a lazy image, as `thaw record` prints it for `thaw convert --order`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatReadOrder } from '../../../cli/convert-lazy/read-order.ts';
import { withDaemon } from '../../../cli/node/daemon.ts';
import { DAEMON_SOCKET } from '../../../cli/node/socket.ts';
import { type ColdBed, handlers } from '../coldnode/bed.ts';
import { ColdPod } from '../coldnode/pod.ts';
import { firstAnswer } from './answer.ts';
import type { Recipe } from './recipes.ts';

const CALL_MS = 30_000;

/** Name of the file. */
export async function recordOrder(cold: ColdBed, image: string, recipe: Recipe): Promise<string> {
  const { node } = cold.bed;
  const daemon = <T>(call: Parameters<typeof withDaemon<T>>[2]) =>
    withDaemon(DAEMON_SOCKET, AbortSignal.timeout(CALL_MS), call);
  const pod = await ColdPod.start(node, handlers.thaw, { cold: true });
  try {
    const imageRef = await pod.pull(image, handlers.thaw);
    // Until the first answer, and no longer: what is read later is not what a start waits for.
    await daemon((node) => node.recordReads());
    const containerId = await pod.create({ image, imageRef, command: recipe.command });
    await node.cri.startContainer(containerId);
    await firstAnswer(pod.ip, recipe.path);
    const reads = await daemon((node) => node.endReads());
    const file = join(cold.dir, `${recipe.name}-order.json`);
    writeFileSync(file, formatReadOrder(reads.filter(({ frames }) => frames.length > 0)));
    return file;
  } finally {
    await pod.remove();
  }
}
