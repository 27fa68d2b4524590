import { cp, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { checkChain, checkPages } from './pages-check.ts';

const fixtures = join(import.meta.dirname, '../../test/fixtures/criu-4.2');
/** Sum of the present runs of the fixture's page map. */
const PAGES_BYTES = 39_473_152;
let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pages-'));
  await cp(fixtures, dir, { recursive: true });
  await writeFile(join(dir, 'pages-1.img'), '');
});
afterEach(() => rm(dir, { recursive: true }));

it('passes a pages file of just the size that a real page map needs', async () => {
  await truncate(join(dir, 'pages-1.img'), PAGES_BYTES);
  await checkPages(dir);
});

it('refuses one that is a byte short, and one that is missing', async () => {
  await truncate(join(dir, 'pages-1.img'), PAGES_BYTES - 1);
  await expect(checkPages(dir)).rejects.toThrow(/pages-1.img.*39473151 bytes, the page maps need 39473152/);
  await rm(join(dir, 'pages-1.img'));
  await expect(checkPages(dir)).rejects.toThrow(/pages-1.img.*missing/);
});

it('looks at every dump that an incremental one refers to, and at no more than there can be', async () => {
  const before = `${dir}-before`;
  await truncate(join(dir, 'pages-1.img'), PAGES_BYTES);
  await cp(dir, before, { recursive: true });
  try {
    await symlink(`../${before.slice(tmpdir().length + 1)}`, join(dir, 'parent'));
    await checkChain(dir);
    await truncate(join(before, 'pages-1.img'), 1);
    await expect(checkChain(dir)).rejects.toThrow(/pages-1.img.*1 bytes/);
    await truncate(join(before, 'pages-1.img'), PAGES_BYTES);
    await symlink(dir, join(before, 'parent'));
    await expect(checkChain(dir)).rejects.toThrow(/more than 64 dumps/);
  } finally {
    await rm(before, { recursive: true });
  }
  await expect(checkChain(before)).rejects.toThrow(/no such directory/);
});
