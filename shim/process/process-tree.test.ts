import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { innerPid, killTree, type ProcessTreeDeps, procTree, treeOf } from './process-tree.ts';

it('finds a process that is forked while the tree is being stopped', async () => {
  const children = new Map<number, number[]>([[10, [11]]]);
  const signals: [number, number][] = [];
  const deps: ProcessTreeDeps = {
    childrenOf: async (pid) => children.get(pid) ?? [],
    signal: (pid, signal) => {
      signals.push([pid, signal]);
      if (pid === 11 && signal === 19) children.set(10, [11, 12]);
      return true;
    },
  };
  expect(await killTree(10, deps)).toBe(3);
  expect(signals.filter(([, signal]) => signal === 9).map(([pid]) => pid)).toEqual([10, 11, 12]);
});

it('ends grandchildren of a real process', async () => {
  const child = spawn('sh', ['-c', 'sh -c "sleep 60; :" & echo ready; wait'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(child.stdout, 'data');
  const pid = child.pid ?? 0;
  while ((await procTree.childrenOf(pid)).length === 0) await new Promise((done) => setTimeout(done, 5));
  const [inner = 0] = await procTree.childrenOf(pid);
  expect(await killTree(pid, procTree)).toBeGreaterThanOrEqual(2);
  await once(child, 'exit');
  expect(child.signalCode).toBe('SIGKILL');
  // A signal takes effect when its process runs next; then the orphan is a zombie until whoever adopted it reaps it.
  await expect.poll(() => ended(inner), { timeout: 5_000 }).toBe(true);
});

async function ended(pid: number): Promise<boolean> {
  const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return state === '' || /\) [ZX] /.test(state);
}

describe('processes', () => {
  it('have a pid in their own namespace, or are gone', async () => {
    expect(await innerPid(process.pid)).toBe(process.pid);
    expect(await innerPid(4_194_305)).toBeUndefined();
  });

  it('are listed with all their descendants', async () => {
    const children: Record<number, number[]> = { 1: [2, 3], 3: [4] };
    expect(await treeOf(1, { childrenOf: async (pid) => children[pid] ?? [] })).toEqual([1, 2, 3, 4]);
  });
});
