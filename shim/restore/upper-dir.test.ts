import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { forgetVolatile, listUpper, resetUpper } from './upper-dir.ts';

let upper: string;
beforeEach(async () => {
  upper = await mkdtemp(join(tmpdir(), 'upper-'));
  await mkdir(join(upper, 'etc'));
  await writeFile(join(upper, 'etc/hosts'), 'kept');
});
afterEach(() => rm(upper, { recursive: true }));

it('removes what was made since, at every depth, and keeps the rest', async () => {
  const before = await listUpper(upper);
  await mkdir(join(upper, 'var/run'), { recursive: true });
  await writeFile(join(upper, 'etc/hostname'), '');
  await resetUpper(upper, before ?? new Set());
  expect(await readdir(upper)).toEqual(['etc']);
  expect(await readdir(join(upper, 'etc'))).toEqual(['hosts']);
});

it('does not follow a link out of the directory', async () => {
  const outside = await mkdtemp(join(tmpdir(), 'outside-'));
  await writeFile(join(outside, 'file'), '');
  await symlink(outside, join(upper, 'link'));
  const before = await listUpper(upper);
  await writeFile(join(outside, 'later'), '');
  await resetUpper(upper, before ?? new Set());
  expect(await readdir(outside)).toEqual(['file', 'later']);
  await rm(outside, { recursive: true });
});

it('gives up on a directory with too many entries', async () => {
  await mkdir(join(upper, 'many'));
  for (let i = 0; i < 4100; i++) await writeFile(join(upper, 'many', String(i)), '');
  expect(await listUpper(upper)).toBeUndefined();
});

it('takes the mark of "volatile" away, and nothing where there is none', async () => {
  await forgetVolatile(upper);
  await mkdir(join(upper, 'work/incompat/volatile'), { recursive: true });
  await writeFile(join(upper, 'work/incompat/volatile/dirty'), '');
  await forgetVolatile(upper);
  // Empty: what else is in there the kernel must see.
  expect(await readdir(join(upper, 'work/incompat'))).toEqual([]);
});
