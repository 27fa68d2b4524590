import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Magic, writeMessages } from '../../checkpoint/criu/framing.ts';
import { criu } from '../../proto/gen/criu-dump.js';
import { Code } from '../../proto/status.ts';
import { checkOpenFiles, placeOf } from './open-files.ts';

let images: string;
let volume: string;
beforeEach(() => {
  images = mkdtempSync(join(tmpdir(), 'images-'));
  volume = mkdtempSync(join(tmpdir(), 'volume-'));
});
afterEach(() => {
  for (const dir of [images, volume]) rmSync(dir, { recursive: true });
});

const { File, RemapPath } = criu.dump;
/** A dump with this file open, of six bytes. */
function dump(name: string, more: { remapped?: boolean } = {}): void {
  const reg = { id: 1, flags: 0, pos: 0, name, size: 6, mode: 0o100644 };
  const file = File.encode({ type: 1, id: 1, reg }).finish();
  writeFileSync(join(images, 'files.img'), writeMessages(Magic.files, [file]));
  const remap = RemapPath.encode({ origId: 1, remapId: 7, remapType: 1 }).finish();
  const remaps = writeMessages(Magic.remapPath, more.remapped ? [remap] : []);
  writeFileSync(join(images, 'remap-fpath.img'), remaps);
}
const check = () =>
  checkOpenFiles(images, {
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/data', type: 'bind', source: volume, options: ['rbind', 'rw'] },
      { destination: '/etc/hosts', type: 'bind', source: join(volume, 'hosts') },
    ],
  });

it('passes a file that is what it was, one in no volume, and one that had lost its name', async () => {
  writeFileSync(join(volume, 'model'), 'abcdef', { mode: 0o644 });
  writeFileSync(join(volume, 'hosts'), 'abcdef', { mode: 0o644 });
  for (const name of ['/data/model', 'data/model', '/etc/hosts', '/usr/lib/x.so', '/proc/1/maps']) {
    dump(name);
    await expect(check()).resolves.toBeUndefined();
  }
  dump('/data/gone', { remapped: true });
  await expect(check()).resolves.toBeUndefined();
});

describe('names a file that', () => {
  it.each<[string, () => void, RegExp]>([
    ['is not there', () => {}, /"\/data\/sub\/model" open, which is not in/],
    ['is longer', () => writeFileSync(join(volume, 'sub/model'), 'abcdefg'), /had 6 bytes and has 7 in/],
    ['is a directory', () => mkdirSync(join(volume, 'sub/model')), /something else/],
    ['is a link', () => symlinkSync('/etc/passwd', join(volume, 'sub/model')), /something else/],
    [
      'has another mode',
      () => {
        writeFileSync(join(volume, 'sub/model'), 'abcdef');
        chmodSync(join(volume, 'sub/model'), 0o600);
      },
      /mode was 0644 and is 0600/,
    ],
    [
      'is behind a link',
      () => {
        rmSync(join(volume, 'sub'), { recursive: true });
        symlinkSync('/etc', join(volume, 'sub'));
      },
      /is not in/,
    ],
  ])('%s', async (_, make, sentence) => {
    mkdirSync(join(volume, 'sub'));
    dump('/data/sub/model');
    make();
    await expect(check()).rejects.toMatchObject({
      code: Code.unavailable,
      message: expect.stringMatching(sentence),
    });
  });
});

it('finds the volume by its longest destination', () => {
  const mounts = ['/a', '/a/b', '/a/bc'].map((destination) => ({
    destination,
    type: 'bind',
    source: `of ${destination}`,
  }));
  expect(placeOf({ path: '/a/b/c' }, mounts)).toEqual({ source: 'of /a/b', path: 'c' });
  expect(placeOf({ path: '/a/bcd' }, mounts)).toEqual({ source: 'of /a', path: 'bcd' });
  expect(placeOf({ path: '/ab' }, mounts)).toBeUndefined();
  expect(
    placeOf({ path: '/dev/shm/x' }, [{ destination: '/dev/shm', type: 'bind', source: '/s' }]),
  ).toBeUndefined();
});
