/** Processes and their descendants. Called by restore/ and checkpoint/. */
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const SIGKILL = 9;
const SIGSTOP = 19;

export interface ProcessTreeDeps {
  /** Direct children over all threads; empty if the process is gone. */
  childrenOf(pid: number): Promise<number[]>;
  /** False if there is no such process. */
  signal(pid: number, signal: number): boolean;
}

/**
 * Kills the process and all its descendants. Seen with CRIU 4.2: a restorer whose pages file is short spins for ever, and
 * it is a sibling of CRIU, not its child, so killing runc or CRIU alone leaves it running. They are stopped first, top down and again until no new one shows up, so
 * that none can fork away between the look and the kill. A stopped or traced process is killed as any other.
 */
export async function killTree(root: number, deps: ProcessTreeDeps): Promise<number> {
  const seen = new Set<number>();
  for (let round = 0; round < 20; round++) {
    const before = seen.size;
    await stopAll(root, seen, deps);
    if (seen.size === before) break;
    await sleep(1);
  }
  for (const pid of seen) deps.signal(pid, SIGKILL);
  return seen.size;
}

/** The same of all descendants and not of the process itself, which goes on. */
export async function killBelow(root: number, deps: ProcessTreeDeps): Promise<void> {
  const seen = new Set<number>();
  for (;;) {
    const children = (await deps.childrenOf(root)).filter((pid) => !seen.has(pid));
    // One that has ended is listed until its parent has reaped it.
    if (children.length === 0) return;
    for (const child of children) {
      seen.add(child);
      await killTree(child, deps);
    }
  }
}

async function stopAll(pid: number, seen: Set<number>, deps: ProcessTreeDeps): Promise<void> {
  if (!seen.has(pid)) {
    if (!deps.signal(pid, SIGSTOP)) return;
    seen.add(pid);
  }
  for (const child of await deps.childrenOf(pid)) await stopAll(child, seen, deps);
}

export const procTree: ProcessTreeDeps = {
  async childrenOf(pid) {
    const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
    const lists = await Promise.all(
      threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '')),
    );
    return lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
  },
  signal(pid, signal) {
    try {
      process.kill(pid, signal);
      return true;
    } catch {
      return false;
    }
  },
};

/** The pid that a process has in its own, innermost PID namespace; undefined if it is gone. */
export async function innerPid(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const last = /^NSpid:\t(?:\d+\t)*(\d+)$/m.exec(status)?.[1];
  return last === undefined ? undefined : Number(last);
}

/** A process and all its descendants. */
export async function treeOf(root: number, deps: Pick<ProcessTreeDeps, 'childrenOf'>): Promise<number[]> {
  const children = await deps.childrenOf(root);
  const below = await Promise.all(children.map((child) => treeOf(child, deps)));
  return [root, ...below.flat()];
}
