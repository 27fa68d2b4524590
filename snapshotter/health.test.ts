import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Code } from '../proto/status.ts';
import { SnapshotError } from './error.ts';
import { Health } from './health.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-health-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const store = { check: () => {}, flushed: () => undefined };

test('a daemon that can write is ready, and leaves nothing', async () => {
  const health = new Health(dir, store);
  health.live();
  await health.ready();
  expect(readdirSync(dir)).toEqual([]);
});

test('one that cannot write lives, but is not ready', async () => {
  writeFileSync(join(dir, 'file'), '');
  const health = new Health(join(dir, 'file'), store);
  health.live();
  await expect(health.ready()).rejects.toThrow('ENOTDIR');
});

test('a disk that stands still is told of after some time', async () => {
  const health = new Health(dir, { ...store, flushed: () => new Promise(() => {}) }, 50);
  await expect(health.ready()).rejects.toMatchObject({
    code: Code.unavailable,
    message: expect.stringContaining('the disk did not take it in 50 ms'),
  });
});

test('metadata that failed once is neither', async () => {
  const broken = () => {
    throw new SnapshotError(Code.internal, 'restart thaw-snapshotter');
  };
  const health = new Health(dir, { ...store, check: broken });
  expect(() => health.live()).toThrow('restart thaw-snapshotter');
  await expect(health.ready()).rejects.toThrow('restart thaw-snapshotter');
});
