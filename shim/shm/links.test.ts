import {
  closeSync,
  linkSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Magic, writeMessages } from '../../checkpoint/criu/framing.ts';
import { SHM_LIST_FILE } from '../../checkpoint/shm.ts';
import { criu } from '../../proto/gen/criu-dump.js';
import { aliasesOf, deviceName, lostMappings, lostNamesOf } from './links.ts';
import { saveShm } from './save.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'links-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

it('finds mappings of one file system whose names are gone', () => {
  const maps = [
    '7f0000000000-7f0000001000 rw-s 00000000 00:9a 42                         /dev/shm/sem.Xq1 (deleted)',
    '7f0000001000-7f0000002000 rw-s 00000000 00:9a 43                         /dev/shm/data',
    '7f0000002000-7f0000003000 rw-s 00000000 00:01 44                         /memfd:x (deleted)',
    '7f0000003000-7f0000004000 rw-p 00000000 00:00 0 ',
  ].join('\n');
  expect(lostMappings(maps, '00:9a')).toEqual(new Map([['sem.Xq1', 42n]]));
  expect([deviceName(0x9an), deviceName(0xfe00n), deviceName(0x10080001n)]).toEqual([
    '00:9a',
    'fe:00',
    '800:10001',
  ]);
});

it('finds open files of this process whose names are gone', async () => {
  const [file, other] = [join(dir, 'first'), join(dir, 'other')];
  writeFileSync(file, 'x');
  const fd = openSync(file, 'r');
  linkSync(file, other);
  unlinkSync(file);
  try {
    const { ino } = statSync(other, { bigint: true });
    expect((await lostNamesOf([process.pid], dir)).get('first')).toBe(ino);
  } finally {
    closeSync(fd);
  }
});

describe('names that CRIU has made', () => {
  const { File, RemapPath } = criu.dump;
  const dump = (name: string, remap: string) => {
    const reg = (id: number, path: string) =>
      File.encode({ type: 1, id, reg: { id, flags: 0, pos: 0, name: path } }).finish();
    writeFileSync(join(dir, 'files.img'), writeMessages(Magic.files, [reg(1, name), reg(2, remap)]));
    const entries = [
      RemapPath.encode({ origId: 1, remapId: 2, remapType: 0 }).finish(),
      RemapPath.encode({ origId: 1, remapId: 9, remapType: 1 }).finish(),
    ];
    writeFileSync(join(dir, 'remap-fpath.img'), writeMessages(Magic.remapPath, entries));
  };

  it('become names of the files that are saved', async () => {
    dump('/dev/shm/sem.Xq1', '/dev/shm/link_remap.2');
    const source = mkdtempSync(join(tmpdir(), 'shared-'));
    try {
      writeFileSync(join(source, 'sem.named'), 'x');
      const { ino } = statSync(join(source, 'sem.named'), { bigint: true });
      const aliases = await aliasesOf(dir, new Map([['sem.Xq1', ino]]));
      expect(aliases).toEqual([{ path: 'link_remap.2', inode: ino }]);
      expect((await saveShm(source, dir, aliases)).entries).toBe(2);
      expect(statSync(join(dir, SHM_LIST_FILE)).size).toBeGreaterThan(0);
      await expect(saveShm(source, dir, [{ path: 'link_remap.3', inode: 1n }])).rejects.toThrow(
        /no name in it/,
      );
    } finally {
      rmSync(source, { recursive: true });
    }
  });

  it.each([
    ['elsewhere', '/data/x', '/data/link_remap.2'],
    ['of a file that nobody has open', '/dev/shm/other', '/dev/shm/link_remap.2'],
  ])('%s cannot be saved', async (_, name, remap) => {
    dump(name, remap);
    await expect(aliasesOf(dir, new Map([['x', 5n]]))).rejects.toThrow(name);
  });

  it('are none in a dump without any', async () => {
    expect(await aliasesOf(dir, new Map())).toEqual([]);
  });
});
