/** The lazy image once more, in the order in which a cold start reads it: what `thaw record` and `thaw convert --order` do. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatReadOrder } from '../../../cli/convert-lazy/read-order.ts';
import { withDaemon } from '../../../cli/node/daemon.ts';
import { DAEMON_SOCKET } from '../../../cli/node/socket.ts';
import { run } from '../../../test/lib/index.ts';
import { type ColdBed, handlers } from '../coldnode/bed.ts';
import { ColdPod } from '../coldnode/pod.ts';
import { firstAnswer } from './answer.ts';
import type { Published } from './publish.ts';

const CALL_MS = 30_000;
const LONG_MS = 20 * 60_000;

export async function publishOrdered(cold: ColdBed, published: Published): Promise<Published> {
  const { node } = cold.bed;
  const { lazy, plain, recipe } = published;
  const daemon = <T>(call: Parameters<typeof withDaemon<T>>[2]) =>
    withDaemon(DAEMON_SOCKET, AbortSignal.timeout(CALL_MS), call);
  const pod = await ColdPod.start(node, handlers.thaw, { cold: true });
  try {
    const imageRef = await pod.pull(lazy, handlers.thaw);
    // Until the first answer, and no longer: what is read later is not what a start waits for.
    await daemon((node) => node.recordReads());
    const containerId = await pod.create({ image: lazy, imageRef, command: recipe.command });
    await node.cri.startContainer(containerId);
    await firstAnswer(pod.ip, recipe.path);
    const reads = await daemon((node) => node.endReads());
    const file = join(cold.dir, `${recipe.name}-order.json`);
    writeFileSync(file, formatReadOrder(reads.filter(({ frames }) => frames.length > 0)));
    const ordered = lazy.replace(/:lazy$/, ':ordered');
    const arguments_ = ['convert', '--lazy', plain, ordered, '--order', file];
    await run('thaw', ['--address', node.containerd.socket, ...arguments_], { timeoutMs: LONG_MS });
    return { ...published, ordered };
  } finally {
    await pod.remove();
  }
}
