import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { LogWatch } from './log-watch.ts';

let dir: string;
let path: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'log-'));
  path = join(dir, 'log');
});
afterEach(() => rmSync(dir, { recursive: true }));

it('has nothing to say of a log that is not there', async () => {
  const log = new LogWatch(path);
  expect(await log.matches(/x/)).toBe(false);
  expect(await log.tail()).toEqual([]);
});

it('sees a line when it is whole, wherever it was cut', async () => {
  const log = new LogWatch(path);
  appendFileSync(path, 'one\nlisten');
  expect(await log.matches(/^listening$/)).toBe(false);
  appendFileSync(path, Buffer.from('ing\nüb'));
  expect(await log.matches(/^listening$/)).toBe(true);
  expect(await log.matches(/^listening$/)).toBe(false);
  appendFileSync(path, 'er\n');
  expect(await log.matches(/^über$/)).toBe(true);
});

it('finds a line in the middle of what was written at once, and keeps the last ones', async () => {
  const log = new LogWatch(path);
  appendFileSync(path, Array.from({ length: 100_000 }, (_, i) => `line ${i}\n`).join(''));
  expect(await log.matches(/^line 77777$/)).toBe(true);
  expect(await log.matches(/^line 99999$/)).toBe(false);
  appendFileSync(path, 'rest');
  expect(await log.tail()).toEqual(['line 99996', 'line 99997', 'line 99998', 'line 99999', 'rest']);
});

it('does not keep all of a line without an end', async () => {
  const log = new LogWatch(path);
  appendFileSync(path, 'x'.repeat(1 << 20));
  expect((await log.tail())[0]?.length).toBe(64 << 10);
});
