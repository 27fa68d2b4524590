/** Puts memory of restored processes into huge pages: copies by a page server are of small ones. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import type { CheckpointFacts } from '../../../checkpoint/facts.ts';
import type { Addon } from '../../../native/index.ts';
import type { PagedProcess } from '../../../native/page-server/calls.ts';
import { describeError } from '../../../proto/status.ts';
import type { Log } from '../../log.ts';
import { innerPid, procTree, treeOf } from '../../process/process-tree.ts';

type Calls = Pick<Addon, 'collapse' | 'pidfdOpen' | 'touchCost'>;

export interface SavedMemory {
  /** What was in huge pages when it was saved. */
  hugePages: CheckpointFacts['hugePages'];
  /** Memory that was copied. */
  processes: readonly PagedProcess[];
}

const POLICY = '/sys/kernel/mm/transparent_hugepage/enabled';
/**
 * Nanoseconds for the first touch of a small page from which on it is worth 2 µs a page to have huge ones. Where the
 * processor walks the page tables itself it is below 1 µs; a hypervisor that shadows them takes tens, for each page that
 * the copiers brought, and the process pays.
 */
const SLOW_TOUCH_NS = 10_000;
const HUGE_PAGE = 2n << 20n;
const PAGE = 4096n;

/**
 * `init` is the container's, in our PID namespace. Only after nothing is registered with a userfaultfd any more: until then
 * the kernel refuses. What cannot be collapsed stays as it is.
 */
export async function collapseHugePages(
  init: number,
  saved: SavedMemory,
  calls: Calls,
  log: Log,
): Promise<void> {
  const all = touchesAreSlow(calls, log);
  if (!saved.hugePages?.length && !all) return;
  const began = performance.now();
  let bytes = 0n;
  for (const pid of await treeOf(init, procTree)) {
    const inner = await innerPid(pid);
    const huge = saved.hugePages?.find((memory) => memory.pid === inner)?.ranges;
    if (huge) bytes += await collapse(pid, rangesOf(huge), false, calls, log);
    const copied = all && saved.processes.find((process) => process.pid === inner);
    if (copied) bytes += await collapse(pid, largeRuns(copied.pieces), true, calls, log);
  }
  log.info(
    { bytes: Number(bytes), all, ms: Math.round(performance.now() - began) },
    'memory is in huge pages',
  );
}

/** Never where the machine's owner wants no huge pages at all. */
function touchesAreSlow(calls: Calls, log: Log): boolean {
  try {
    return !isNever(readFileSync(POLICY, 'utf8')) && calls.touchCost() >= SLOW_TOUCH_NS;
  } catch (error) {
    log.debug({ reason: describeError(error).message }, 'cannot tell what it costs to touch memory');
    return false;
  }
}

/** Source: the kernel's admin-guide/mm/transhuge.rst; the chosen one is in brackets. */
export function isNever(policy: string): boolean {
  return policy.includes('[never]');
}

function rangesOf(ranges: readonly (readonly [string, string])[]): bigint[] {
  return ranges.flatMap(([start, end]) => [BigInt(`0x${start}`), BigInt(`0x${end}`)]);
}

/** Starts and ends of the runs that may have a huge page in them. */
export function largeRuns(pieces: BigUint64Array): bigint[] {
  const runs: bigint[] = [];
  let start = 0n;
  let end = 0n;
  const take = () => {
    if (end - start >= HUGE_PAGE) runs.push(start, end);
  };
  for (let i = 0; i < pieces.length; i += 3) {
    const address = pieces[i] ?? 0n;
    if (address !== end) {
      take();
      start = address;
    }
    end = address + (pieces[i + 2] ?? 0n) * PAGE;
  }
  take();
  return runs;
}

/** `onlyWhole`: where it takes no more memory. */
async function collapse(
  pid: number,
  ranges: readonly bigint[],
  onlyWhole: boolean,
  calls: Calls,
  log: Log,
): Promise<bigint> {
  const opened: number[] = [];
  try {
    const pidfd = calls.pidfdOpen(pid);
    opened.push(pidfd);
    // If the pid is another process's by now, the pidfd's is gone and nothing is collapsed.
    const pagemap = onlyWhole ? openSync(`/proc/${pid}/pagemap`, 'r') : undefined;
    if (pagemap !== undefined) opened.push(pagemap);
    return await calls.collapse(pidfd, BigUint64Array.from(ranges), pagemap);
  } catch (error) {
    log.debug({ pid, reason: describeError(error).message }, 'cannot have huge pages');
    return 0n;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}
