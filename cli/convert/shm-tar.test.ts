import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { extract, type Header, pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readShmList, SHM_DATA_FILE, SHM_LIST_FILE, type ShmEntry } from '../../checkpoint/shm.ts';
import { takeShm, writeShmTar } from './shm-tar.ts';

let dir: string;
const signal = new AbortController().signal;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'shm-tar-'));
  mkdirSync(join(dir, 'images'));
});
afterEach(() => rmSync(dir, { recursive: true }));

type Entry = Partial<Header> & { name: string; content?: string };

async function write(entries: readonly Entry[], compress = (bytes: Buffer) => bytes): Promise<string> {
  const tar = pack();
  for (const { content, ...header } of entries)
    if (content === undefined) tar.entry(header);
    else tar.entry(header, content);
  tar.finalize();
  const parts: Uint8Array[] = [];
  for await (const part of tar) parts.push(part as Uint8Array);
  const path = join(dir, 'shm.tar');
  writeFileSync(path, compress(Buffer.concat(parts)));
  return path;
}

const image = (name: string) => join(dir, 'images', name);

function saved(): { entries: ShmEntry[]; data: Buffer } {
  const data = readFileSync(image(SHM_DATA_FILE));
  return { entries: readShmList(readFileSync(image(SHM_LIST_FILE)), data.length), data };
}

const everything: Entry[] = [
  { name: './', type: 'directory', mode: 0o1777 },
  { name: './sem.a', mode: 0o4600, uid: 7, gid: 8, content: 'semaphore' },
  { name: './queue/', type: 'directory', mode: 0o700, uid: 7, gid: 8 },
  { name: './queue/empty', mode: 0o644, content: '' },
  { name: './queue/ring', mode: 0o644, content: 'r'.repeat(5000) },
  { name: './again', type: 'link', linkname: './sem.a' },
  { name: './away', type: 'symlink', linkname: '/etc/passwd' },
];

it('takes what Podman writes, and writes it as it was', async () => {
  const path = await write([...everything, { name: './pipe', type: 'fifo' }], gzipSync);
  expect(await takeShm(path, join(dir, 'images'), signal)).toEqual({ entries: 6, leftOut: ['pipe'] });
  const { entries, data } = saved();
  expect(entries).toEqual([
    { kind: 'file', path: 'sem.a', mode: 0o600, uid: 7, gid: 8, offset: 0, size: 9 },
    { kind: 'directory', path: 'queue', mode: 0o700, uid: 7, gid: 8 },
    { kind: 'file', path: 'queue/empty', mode: 0o644, uid: 0, gid: 0, offset: 4096, size: 0 },
    { kind: 'file', path: 'queue/ring', mode: 0o644, uid: 0, gid: 0, offset: 4096, size: 5000 },
    { kind: 'link', path: 'again', to: 'sem.a' },
    { kind: 'symlink', path: 'away', uid: 0, gid: 0, target: '/etc/passwd' },
  ]);
  expect(data.subarray(4096).toString()).toBe('r'.repeat(5000));

  const out = join(dir, 'out.tar');
  expect(await writeShmTar(join(dir, 'images'), out, new Date(0), signal)).toBe(true);
  mkdirSync(join(dir, 'second'));
  await takeShm(out, join(dir, 'second'), signal);
  for (const name of [SHM_LIST_FILE, SHM_DATA_FILE])
    expect(readFileSync(join(dir, 'second', name)).equals(readFileSync(image(name)))).toBe(true);
  // What other tools read of it: plain entries with their owners.
  const headers: Header[] = [];
  const reader = extract();
  reader.end(readFileSync(out));
  for await (const entry of reader) {
    headers.push(entry.header);
    entry.resume();
  }
  expect(headers.find(({ name }) => name === 'sem.a')).toMatchObject({
    mode: 0o600,
    uid: 7,
    gid: 8,
    size: 9,
  });
});

it('has nothing for what was empty', async () => {
  const path = await write([{ name: './', type: 'directory' }]);
  expect(await takeShm(path, join(dir, 'images'), signal)).toEqual({ entries: 0, leftOut: [] });
  expect(existsSync(image(SHM_DATA_FILE))).toBe(false);
  expect(await writeShmTar(join(dir, 'images'), join(dir, 'out.tar'), new Date(0), signal)).toBe(false);
  expect(existsSync(join(dir, 'out.tar'))).toBe(false);
});

describe('an archive is not believed that has', () => {
  it.each<[string, Entry[]]>([
    ['a way out', [{ name: '../x', content: 'x' }]],
    [
      'a way through a link',
      [
        { name: 'd', type: 'symlink', linkname: '/etc' },
        { name: 'd/x', content: 'x' },
      ],
    ],
    [
      'a name twice',
      [
        { name: 'x', content: '1' },
        { name: 'x', content: '2' },
      ],
    ],
    ['a link to another directory', [{ name: 'x', type: 'link', linkname: '/etc/passwd' }]],
  ])('%s', async (_, entries) => {
    const path = await write(entries);
    await expect(takeShm(path, join(dir, 'images'), signal)).rejects.toThrow(
      /^Cannot trust the archive: devshm-checkpoint\.tar: /,
    );
  });
});
