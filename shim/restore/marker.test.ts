import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { findMarker, withoutCheckpointLayers } from './marker.ts';

let snapshot: string;
let fs: string;
beforeEach(async () => {
  snapshot = await mkdtemp(join(tmpdir(), 'snapshot-'));
  fs = join(snapshot, 'fs');
  await mkdir(join(fs, '.thaw'), { recursive: true });
});
afterEach(() => rm(snapshot, { recursive: true }));

it('finds the marker of a remote snapshot beside the layer', async () => {
  await writeFile(join(snapshot, 'checkpoint.json'), 'remote');
  expect(Buffer.from(findMarker(fs) ?? []).toString()).toBe('remote');
});

it('finds the marker of an unpacked image inside the layer', async () => {
  await writeFile(join(fs, '.thaw/checkpoint.json'), 'unpacked');
  expect(Buffer.from(findMarker(fs) ?? []).toString()).toBe('unpacked');
});

it('is undefined for an ordinary layer, a missing directory and anything but a regular file', async () => {
  expect(findMarker(fs)).toBeUndefined();
  expect(findMarker(join(snapshot, 'gone'))).toBeUndefined();
  await symlink('/etc/passwd', join(fs, '.thaw/checkpoint.json'));
  expect(findMarker(fs)).toBeUndefined();
  await rm(join(fs, '.thaw/checkpoint.json'));
  await mkdir(join(fs, '.thaw/checkpoint.json'));
  expect(findMarker(fs)).toBeUndefined();
});

it('refuses a marker of absurd size', async () => {
  await writeFile(join(fs, '.thaw/checkpoint.json'), '');
  await truncate(join(fs, '.thaw/checkpoint.json'), 5 << 20);
  expect(() => findMarker(fs)).toThrow(/5242880 bytes/);
});

it('leaves out checkpoint layers, remote or unpacked, from the bottom up', async () => {
  const dirs = await Promise.all(
    ['4', '3', '2', '1'].map(async (id) => {
      const dir = join(snapshot, id, 'fs');
      await mkdir(dir, { recursive: true });
      return dir;
    }),
  );
  await writeFile(join(snapshot, '1/checkpoint.json'), '');
  await mkdir(join(snapshot, '2/fs/.thaw'));
  // Above an ordinary layer it is somebody's own file.
  await mkdir(join(snapshot, '4/fs/.thaw'));
  expect(await withoutCheckpointLayers(dirs)).toEqual(dirs.slice(0, 2));
  expect(await withoutCheckpointLayers(dirs.slice(2))).toHaveLength(1);
});
