import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Code } from '../proto/status.ts';
import { Successor } from './successor.ts';
import { TAKE_OVER, takeOver } from './take-over.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-successor-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

/** A successor that is a shell script; its pipe is descriptor 3, as no socket is handed over. */
async function successor(script: string, timeoutMs = 20_000): Promise<Successor> {
  const program = join(dir, 'program');
  writeFileSync(program, `#!/bin/sh\n${script}\n`);
  await chmod(program, 0o755);
  return new Successor({
    program,
    args: [],
    environment: { PATH: '/usr/bin:/bin' },
    sockets: new Map(),
    timeoutMs,
  });
}

test('a hand-over is for the child of who hands over, and not for its children', () => {
  const text = JSON.stringify({ pid: 7, sockets: { '/a': 3, '/b': 4 }, pipe: 5 });
  expect(takeOver({ [TAKE_OVER]: text }, 7)?.sockets).toEqual(
    new Map([
      ['/a', 3],
      ['/b', 4],
    ]),
  );
  expect(takeOver({ [TAKE_OVER]: text }, 8)).toBeUndefined();
  for (const wrong of [undefined, '', '{}', '{"pid":7,"sockets":{"/a":0},"pipe":5}'])
    expect(takeOver({ [TAKE_OVER]: wrong }, 7)).toBeUndefined();
});

test('each stage is waited for', async () => {
  const child = await successor('echo loaded >&3; read line; echo ready >&3; exec sleep 1000');
  await child.reaches('loaded');
  await child.reaches('ready');
  child.end();
});

test('one that ends, hangs, or is not there is an error that says so', async () => {
  const code = Code.unavailable;
  const ended = (await successor('exit 3')).reaches('loaded');
  await expect(ended).rejects.toMatchObject({ code, message: expect.stringContaining('it ended with 3') });
  const late = await successor('echo loaded >&3; exec sleep 1000', 1_000);
  await late.reaches('loaded');
  await expect(late.reaches('ready')).rejects.toMatchObject({
    code,
    message: expect.stringContaining('it was not ready in 1 s'),
  });
  const missing = new Successor({
    program: join(dir, 'missing'),
    args: [],
    environment: {},
    sockets: new Map(),
    timeoutMs: 20_000,
  });
  await expect(missing.reaches('loaded')).rejects.toMatchObject({
    code,
    message: expect.stringContaining('ENOENT'),
  });
});
