/** Puts memory back into huge pages that was in them when it was saved: copies by a page server are of small ones. */
import { closeSync } from 'node:fs';
import type { CheckpointFacts } from '../../../checkpoint/facts.ts';
import type { Addon } from '../../../native/index.ts';
import { describeError } from '../../../proto/status.ts';
import type { Log } from '../../log.ts';
import { innerPid, procTree, treeOf } from '../../process/process-tree.ts';

/**
 * `init` is the container's, in our PID namespace. Only after nothing is registered with a userfaultfd any more: until then
 * the kernel refuses. What cannot be collapsed stays as it is.
 */
export async function collapseHugePages(
  init: number,
  saved: CheckpointFacts['hugePages'],
  calls: Pick<Addon, 'collapse' | 'pidfdOpen'>,
  log: Log,
): Promise<void> {
  if (!saved?.length) return;
  const began = performance.now();
  let bytes = 0n;
  for (const pid of await treeOf(init, procTree)) {
    const inner = await innerPid(pid);
    const ranges = saved.find((memory) => memory.pid === inner)?.ranges;
    if (ranges) bytes += await collapse(pid, ranges, calls, log);
  }
  log.info(
    { bytes: Number(bytes), ms: Math.round(performance.now() - began) },
    'memory is in huge pages again',
  );
}

async function collapse(
  pid: number,
  ranges: readonly (readonly [string, string])[],
  calls: Pick<Addon, 'collapse' | 'pidfdOpen'>,
  log: Log,
): Promise<bigint> {
  let pidfd: number | undefined;
  try {
    pidfd = calls.pidfdOpen(pid);
    const pairs = ranges.flatMap(([start, end]) => [BigInt(`0x${start}`), BigInt(`0x${end}`)]);
    return await calls.collapse(pidfd, BigUint64Array.from(pairs));
  } catch (error) {
    log.debug({ pid, reason: describeError(error).message }, 'cannot have huge pages');
    return 0n;
  } finally {
    if (pidfd !== undefined) closeSync(pidfd);
  }
}
