import { execFileSync } from 'node:child_process';
import { appendFileSync, closeSync, existsSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { openDescriptors } from '../../native/testing.ts';
import { Code } from '../../proto/status.ts';
import { ChildSpawner } from '../process/spawn.ts';
import { letInitRun } from './exec-fifo.ts';

let stateDir: string;
let fifo: string;
let descriptors: number;
// The first use of the addon's thread opens descriptors that stay.
beforeAll(async () => {
  await new ChildSpawner(native).run('true', [], { env: {}, deadlineMs: 10_000 });
});
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'state-'));
  fifo = join(stateDir, 'exec.fifo');
  execFileSync('mkfifo', [fifo]);
  descriptors = openDescriptors();
});
afterEach(() => {
  expect(openDescriptors()).toBe(descriptors);
  rmSync(stateDir, { recursive: true });
});

const forever = new Promise(() => {});
const letRun = (exited: Promise<unknown> = forever, deadlineMs = 10_000) =>
  letInitRun({ stateDir, exited, deadlineMs }, native);
const init = (script: string) =>
  new ChildSpawner(native).run('sh', ['-c', script], { env: { FIFO: fifo }, deadlineMs: 10_000 });

describe('letInitRun', () => {
  it('lets an init go on that waits already', async () => {
    const ran = init('printf 0 >"$FIFO"');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await letRun()).toBe(true);
    expect(await ran).toMatchObject({ code: 0 });
    expect(existsSync(fifo)).toBe(false);
  });

  it('waits for an init that has not come yet', async () => {
    const ran = init('sleep 0.2; printf 0 >"$FIFO"');
    expect(await letRun()).toBe(true);
    expect(await ran).toMatchObject({ code: 0 });
  });

  it('counts what an init wrote that has ended since', async () => {
    const writer = openSync(fifo, 'r+');
    writeSync(writer, '0');
    const started = letRun(Promise.resolve());
    expect(await started.finally(() => closeSync(writer))).toBe(true);
  });

  it('says that the init is dead', async () => {
    await expect(letRun(Promise.resolve())).rejects.toMatchObject({
      code: Code.unknown,
      message: 'OCI runtime start failed: container process is already dead',
    });
    expect(existsSync(fifo)).toBe(true);
  });

  it('gives up at the deadline', async () => {
    await expect(letRun(forever, 50)).rejects.toMatchObject({ code: Code.deadlineExceeded });
  });

  it('leaves it to runc where there is no fifo, and never follows a link', async () => {
    rmSync(fifo);
    expect(await letRun()).toBe(false);
    appendFileSync(join(stateDir, 'other'), '');
    execFileSync('ln', ['-s', 'other', fifo]);
    await expect(letRun()).rejects.toMatchObject({ code: 'ELOOP' });
  });
});
