import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { enableControllers } from './controllers.ts';

let root: string;
const container = () => join(root, 'kubepods/pod/c');
const control = (dir: string) => readFile(join(root, dir, 'cgroup.subtree_control'), 'utf8');

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'controllers-'));
  await mkdir(container(), { recursive: true });
  await writeFile(join(root, 'cgroup.controllers'), 'cpu memory\n');
  await writeFile(join(container(), 'cgroup.controllers'), 'cpu\n');
  for (const dir of ['', 'kubepods', 'kubepods/pod', 'kubepods/pod/c'])
    await writeFile(join(root, dir, 'cgroup.subtree_control'), '');
});
afterEach(() => rm(root, { recursive: true }));

it('hands down what the container lacks, from the root to its parent', async () => {
  enableControllers(root, container());
  for (const dir of ['', 'kubepods', 'kubepods/pod']) expect(await control(dir)).toBe('+memory');
  expect(await control('kubepods/pod/c')).toBe('');
});

it('writes nothing where nothing is lacking', async () => {
  await writeFile(join(container(), 'cgroup.controllers'), 'cpu memory\n');
  enableControllers(root, container());
  expect(await control('')).toBe('');
});

it('goes on below a cgroup that refuses, and says so', async () => {
  await rm(join(root, 'kubepods/cgroup.subtree_control'));
  await mkdir(join(root, 'kubepods/cgroup.subtree_control'));
  expect(() => enableControllers(root, container())).toThrow(expect.objectContaining({ code: 'EISDIR' }));
  expect(await control('kubepods/pod')).toBe('+memory');
});
