import { cp, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { checkPages } from './pages-check.ts';

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
