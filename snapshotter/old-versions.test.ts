import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CURRENT, RETIRED } from '../node-state/install-names.ts';
import { removeOldVersions, watchOldVersions } from './old-versions.ts';

let root: string;
let prefix: string;
let removed: string[];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'thaw-'));
  prefix = join(root, 'opt');
  removed = [];
  for (const version of ['1', '2', '3']) mkdirSync(join(prefix, version, 'bin'), { recursive: true });
  symlinkSync('3', join(prefix, CURRENT));
  mkdirSync(join(root, 'proc/self'), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true }));

const retire = (version: string) => writeFileSync(join(prefix, version, RETIRED), '');
const runs = (pid: number, version: string) => {
  mkdirSync(join(root, `proc/${pid}`));
  symlinkSync(join(prefix, version, 'bin/node'), join(root, `proc/${pid}/exe`));
};
const deps = (tryLock = () => true) => ({
  proc: join(root, 'proc'),
  tryLock,
  onRemoved: (version: string) => void removed.push(version),
  onFailed: (error: unknown) => {
    throw error;
  },
});
const look = (tryLock?: () => boolean) => removeOldVersions(join(prefix, '3'), deps(tryLock));

it('removes a version that was replaced and that no process runs from, and no other', async () => {
  for (const version of ['1', '2']) retire(version);
  runs(7, '2');
  await look();
  expect(removed).toEqual(['1']);
  expect(['1', '2', '3'].map((version) => existsSync(join(prefix, version)))).toEqual([false, true, true]);
  rmSync(join(root, 'proc/7'), { recursive: true });
  await look();
  expect(removed).toEqual(['1', '2']);
});
it('leaves what is current, marked or not, and what was brought back', async () => {
  retire('3');
  await look();
  expect(existsSync(join(prefix, '3'))).toBe(true);
});
it('does nothing while somebody installs', async () => {
  retire('1');
  await look(() => false);
  expect(removed).toEqual([]);
  expect(existsSync(join(prefix, '1'))).toBe(true);
});
it('looks again, and not after it was stopped', async () => {
  let seen: () => void = () => {};
  const once = new Promise<void>((resolve) => {
    seen = resolve;
  });
  const stop = watchOldVersions(join(prefix, '3'), {
    ...deps(),
    everyMs: 5,
    onRemoved: () => seen(),
  });
  retire('1');
  await once;
  await stop();
  retire('2');
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(existsSync(join(prefix, '2'))).toBe(true);
});
