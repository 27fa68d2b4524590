import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { native } from './index.ts';
import { exitOf, openDescriptors, runNode } from './testing.ts';

/**
 * Starts a script whose parent ends at once, so that this process adopts it. The script begins only when that has
 * happened ($$ is the parent): the parent would reap a faster one itself.
 */
function adopt(script: string): number {
  const orphan = `{ while kill -0 $$; do sleep 0.001; done; ${script}; } >/dev/null 2>&1 & echo $!`;
  return Number(execFileSync('/bin/sh', ['-c', orphan], { encoding: 'utf8' }));
}

beforeAll(() => native.setChildSubreaper(true));

describe('pidfdWait', () => {
  test('reports the exit code of an adopted child', async () => {
    expect(await exitOf(native.pidfdOpen(adopt('sleep 0.1; exit 7')))).toEqual({ code: 7, signal: 0 });
  });

  test('reports a signal as 128 plus its number', async () => {
    const pid = adopt('exec sleep 60');
    const waiting = native.pidfdOpen(pid);
    const exit = exitOf(waiting);
    native.pidfdSendSignal(waiting, 15);
    expect(await exit).toEqual({ code: 143, signal: 15 });
  });

  test('reports a child that ended before the wait began', async () => {
    const pid = adopt('exit 3');
    const pidfd = native.pidfdOpen(pid);
    await expect.poll(() => readFileSync(`/proc/${pid}/stat`, 'utf8')).toMatch(/\) Z /);
    expect(await exitOf(pidfd)).toEqual({ code: 3, signal: 0 });
  });

  test('reaps: the process is gone afterwards and its descriptor closed', async () => {
    const pid = adopt('sleep 0.05');
    await exitOf(native.pidfdOpen(pid));
    expect(() => native.pidfdOpen(pid)).toThrow(/^ESRCH: no such process, pidfd_open$/);
    const before = openDescriptors();
    await exitOf(native.pidfdOpen(adopt('sleep 0.05')));
    expect(openDescriptors()).toBe(before);
  });

  test('fails with ECHILD for a process that is no child', async () => {
    await expect(exitOf(native.pidfdOpen(process.ppid))).rejects.toMatchObject({
      code: 'ECHILD',
      errno: -10,
      syscall: 'waitid',
    });
  });

  test('leaves the children of child_process to it', async () => {
    const child = spawn('/bin/sh', ['-c', 'sleep 0.1; exit 9']);
    const [adopted, [code]] = await Promise.all([
      exitOf(native.pidfdOpen(adopt('sleep 0.05; exit 4'))),
      once(child, 'exit'),
    ]);
    expect(adopted.code).toBe(4);
    expect(code).toBe(9);
  });

  test('waits for many at once and mixes none up', async () => {
    const codes = Array.from({ length: 40 }, (_, i) => i);
    const exits = await Promise.all(
      codes.map((code) => exitOf(native.pidfdOpen(adopt(`sleep 0.${code % 3}; exit ${code}`)))),
    );
    expect(exits.map((exit) => exit.code)).toEqual(codes);
  });

  test('keeps the process alive while it waits, and no longer', async () => {
    const output = await runNode(`
      import { execFileSync } from 'node:child_process';
      native.setChildSubreaper(true);
      const pid = Number(execFileSync('/bin/sh', ['-c', '(sleep 0.3; exit 5) >/dev/null & echo $!']));
      native.pidfdWait(native.pidfdOpen(pid), (error, status) => console.log(status.code));`);
    expect(output).toBe('5\n');
  });

  test('an exception in the callback is an uncaught exception', async () => {
    const output = await runNode(`
      process.on('uncaughtException', (error) => console.log('uncaught', error.message));
      native.pidfdWait(native.pidfdOpen(process.ppid), () => { throw new Error('from the callback'); });`);
    expect(output).toBe('uncaught from the callback\n');
  });

  test('a worker thread that ends with waits pending takes them along', async () => {
    const output = await runNode(`
      import { Worker } from 'node:worker_threads';
      const source = \`
        const { createRequire } = require('node:module');
        const native = createRequire('/')(process.argv[2]);
        const [read, write] = native.pipe();
        const [read2, write2] = native.pipe();
        native.relayStart(read, write2, () => {});
        require('node:worker_threads').parentPort.postMessage('pending');\`;
      const addon = process.report.getReport().sharedObjects.find((path) => path.endsWith('thaw.node'));
      for (let i = 0; i < 5; i++) {
        const worker = new Worker(source, { eval: true, argv: [addon], execArgv: [] });
        await new Promise((resolve) => worker.once('message', resolve));
        await worker.terminate();
      }
      console.log('ended');`);
    expect(output).toBe('ended\n');
  });
});

describe('reapZombie', () => {
  test('takes the status of a zombie child once', async () => {
    const pid = adopt('exit 6');
    await expect.poll(() => native.reapZombie(pid)).toEqual({ code: 6, signal: 0 });
    expect(native.reapZombie(pid)).toBeUndefined();
  });

  test('says nothing about a running child or a stranger', async () => {
    const pid = adopt('exec sleep 60');
    const pidfd = native.pidfdOpen(pid);
    expect(native.reapZombie(pid)).toBeUndefined();
    expect(native.reapZombie(process.ppid)).toBeUndefined();
    native.pidfdSendSignal(pidfd, 9);
    expect(await exitOf(pidfd)).toEqual({ code: 137, signal: 9 });
  });
});

test('children lists adopted and spawned ones until they are reaped', async () => {
  const child = spawn('/bin/sleep', ['0.2']);
  const pid = adopt('exec sleep 0.2');
  expect(native.children()).toEqual(expect.arrayContaining([pid, child.pid]));
  await Promise.all([exitOf(native.pidfdOpen(pid)), once(child, 'exit')]);
  expect(native.children()).not.toContain(pid);
  expect(native.children()).not.toContain(child.pid);
});

test('pidfdSendSignal names the error of a process that is gone', async () => {
  const pid = adopt('sleep 0.05');
  const pidfd = native.pidfdOpen(pid);
  const second = native.pidfdOpen(pid);
  await exitOf(pidfd);
  expect(() => native.pidfdSendSignal(second, 9)).toThrow(/^ESRCH: no such process, pidfd_send_signal$/);
  closeSync(second);
});

test('wrong arguments are type errors that name the argument', () => {
  expect(() => native.pidfdOpen(0)).toThrow(new TypeError('Cannot use argument 1, expected a process id'));
  expect(() => native.pidfdOpen(1.5)).toThrow(TypeError);
  expect(() => native.pidfdSendSignal(0, 65)).toThrow('Cannot use argument 2, expected a signal number');
});
