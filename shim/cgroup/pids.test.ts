import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { listedDir, pidsBelow } from './pids.ts';

it('lists processes of nested cgroups too, and none of one that is gone', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'pids-'));
  try {
    await mkdir(join(dir, 'init.scope/deep'), { recursive: true });
    await mkdir(join(dir, 'empty'));
    await writeFile(join(dir, 'cgroup.procs'), '7\n8\n');
    await writeFile(join(dir, 'init.scope/cgroup.procs'), '9\n');
    await writeFile(join(dir, 'init.scope/deep/cgroup.procs'), '10\n');
    expect((await pidsBelow(dir)).sort((a, b) => a - b)).toEqual([7, 8, 9, 10]);
    expect(await pidsBelow(join(dir, 'gone'))).toEqual([]);
  } finally {
    await rm(dir, { recursive: true });
  }
});

it('looks where runc does', () => {
  const dirs = new Map([
    ['cpu', '/c'],
    ['memory', '/m'],
    ['devices', '/d'],
  ]);
  expect(listedDir({ version: 'v1', dirs })).toBe('/d');
  expect(listedDir({ version: 'v1', dirs: new Map([['cpu', '/c']]) })).toBe('/c');
  expect(listedDir({ version: 'v2', dir: '/u/x', mount: '/u' })).toBe('/u/x');
});
