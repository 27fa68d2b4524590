import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import pino from 'pino';
import { afterEach, expect, it } from 'vitest';
import { setOomScore } from './oom-score.ts';

let child: ChildProcess | undefined;
afterEach(() => child?.kill('SIGKILL'));
const log = pino({ level: 'silent' });

it("gives a process and what it has started the pod's score", async () => {
  child = spawn('sh', ['-c', 'sleep 60 & echo $!; wait'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const grandchild = await new Promise<number>((resolve) =>
    child?.stdout?.once('data', (text: Buffer) => resolve(Number(text))),
  );
  const score = (pid: number) => Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'));
  const pid = child.pid ?? 0;
  // Raising it needs no rights.
  await setOomScore(pid, { process: { oomScoreAdj: 1000 } }, log);
  expect([score(pid), score(grandchild)]).toEqual([1000, 1000]);
  await setOomScore(pid, { process: {} }, log);
  expect(score(pid)).toBe(1000);
  process.kill(grandchild, 'SIGKILL');
});

it('is no reason to fail', async () => {
  await expect(setOomScore(process.pid, { process: { oomScoreAdj: 5000 } }, log)).resolves.toBeUndefined();
});
