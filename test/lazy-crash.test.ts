/** Who dies while memory is still on its way: nobody reads a wrong byte, and nothing is left. */
import { readdirSync, readlinkSync } from 'node:fs';
import { expect, it } from 'vitest';
import { sleep, until } from './lib/index.ts';
import { type LazyNode, type MemoryPod, useLazyNode } from './lib/lazy-node.ts';

let lazy: LazyNode;
useLazyNode((node) => {
  lazy = node;
});

/** Nothing but its end: no wrong byte, and no answer that it could not have. */
async function endedRight(pod: MemoryPod): Promise<void> {
  expect(lazy.wrong(pod)).toBe('');
  expect(lazy.hasAnswered(pod)).toBe(false);
  await until('the guard to end', () => lazy.guards().length === 0);
}

function kill(pids: readonly number[]): void {
  expect(pids.filter(killIfThere)).not.toEqual([]);
}

/** False where it has ended: with the first process of a PID namespace the kernel kills all others. */
function killIfThere(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** Several processes, all of which wait for memory. */
async function runWaiting(): Promise<MemoryPod> {
  const pod = await lazy.runHeld();
  lazy.tell(pod, 'fork 2');
  await until('the children', () => lazy.workloads().length === 3);
  return pod;
}

it('dies with a shim that was killed, and can be restored again', async () => {
  const pod = await runWaiting();
  kill(lazy.shims());
  expect(await lazy.ended(pod)).not.toBe(0);
  await endedRight(pod);
  await lazy.removePods();
  lazy.letGo();
  await lazy.check(await lazy.run(lazy.warm));
});

it('dies with a shim that was killed while containerd stands still', async () => {
  const pod = await runWaiting();
  // Memory comes all the time.
  lazy.link.held = false;
  process.kill(lazy.node.containerd.pid, 'SIGSTOP');
  try {
    kill(lazy.shims());
    await until('all processes to end', () => lazy.workloads().length === 0);
    await endedRight(pod);
  } finally {
    process.kill(lazy.node.containerd.pid, 'SIGCONT');
  }
  await lazy.ended(pod);
});

it('dies with a shim that was killed after containerd was', async () => {
  const pod = await runWaiting();
  await lazy.node.containerd.kill();
  try {
    kill(lazy.shims());
    await until('all processes to end', () => lazy.workloads().length === 0);
    await endedRight(pod);
  } finally {
    await lazy.node.containerd.restart();
  }
  await lazy.ended(pod);
});

it('goes on without containerd', async () => {
  const pod = await runWaiting();
  await lazy.node.containerd.kill();
  try {
    lazy.letGo();
    await lazy.answered(pod, 'fork 2');
    await lazy.drained();
  } finally {
    await lazy.node.containerd.restart();
  }
  await lazy.check(pod);
});

it('gets another guard where one was killed', async () => {
  const log = lazy.shimLog();
  const pod = await runWaiting();
  kill(lazy.guards());
  await until('another guard', () => /starting another/.test(log()));
  await until('it to hold the memory of all processes', () => userfaultfds(lazy.guards()[0]) >= 3);
  // It does what the first would have done.
  kill(lazy.shims());
  await lazy.ended(pod);
  await endedRight(pod);
});

function userfaultfds(pid: number | undefined): number {
  const links = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
  return links.filter((link) => link.includes('userfaultfd')).length;
}

it('reads right bytes whatever becomes of its guards', async () => {
  const pod = await runWaiting();
  lazy.letGo();
  for (let i = 0; i < 5; i++) {
    for (const pid of lazy.guards()) killIfThere(pid);
    await sleep(20);
  }
  await lazy.answered(pod, 'fork 2');
  await lazy.drained();
  await lazy.check(pod);
});

it('can be killed while it waits for a page', async () => {
  const pod = await runWaiting();
  kill(lazy.workloads());
  expect(await lazy.ended(pod)).toBe(137);
  await endedRight(pod);
});
