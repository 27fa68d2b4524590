import { cp, lstat, mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readUtsns } from '../../checkpoint/criu/utsns.ts';
import { makeImagesDir } from './images-dir.ts';

const fixtures = join(import.meta.dirname, '../../test/fixtures/criu-4.2');
let dir: string;
let source: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'images-'));
  source = join(dir, 'cache/files');
  await cp(fixtures, source, { recursive: true });
  await writeFile(join(source, 'thaw-dump.json'), '{}');
});
afterEach(() => rm(dir, { recursive: true }));

it('links to the cache with links that hold after CRIU has changed its root', async () => {
  // A bundle's work directory is a link itself.
  await mkdir(join(dir, 'work-1/deep'), { recursive: true });
  await symlink(join(dir, 'work-1/deep'), join(dir, 'work'));
  const target = join(dir, 'work/images');
  await makeImagesDir(source, target, { hostname: 'pod2', domainname: '(none)' });
  expect((await lstat(join(target, 'core-1.img'))).isSymbolicLink()).toBe(true);
  expect(await readFile(join(target, 'core-1.img'))).toEqual(await readFile(join(source, 'core-1.img')));
  expect(await readlink(join(target, 'core-1.img'))).toMatch(/^\.\.\//);
  await expect(lstat(join(target, 'thaw-dump.json'))).rejects.toThrow('ENOENT');
});

it('gives the pod’s own host name to the image of its UTS namespace, and leaves the cache alone', async () => {
  const target = join(dir, 'images');
  await makeImagesDir(source, target, { hostname: 'pod2', domainname: undefined });
  const rewritten = readUtsns(await readFile(join(target, 'utsns-12.img')));
  expect(rewritten).toEqual({ nodename: 'pod2', domainname: '(none)' });
  expect(readUtsns(await readFile(join(source, 'utsns-12.img'))).nodename).toBe('pod1');
});

it('replaces what an earlier attempt left', async () => {
  const target = join(dir, 'images');
  for (const hostname of ['pod2', 'pod3'])
    await makeImagesDir(source, target, { hostname, domainname: undefined });
  expect(readUtsns(await readFile(join(target, 'utsns-12.img'))).nodename).toBe('pod3');
});
