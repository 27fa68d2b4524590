import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { digestOf } from '../../checkpoint/digest.ts';
import { EMPTY_TAR } from '../checkpoint/freeze.ts';
import { deletedBy, writeDiffLayer } from './diff-layer.ts';
import { readArchive } from './read-archive.ts';

let dir: string;
const signal = new AbortController().signal;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'archive-'));
  mkdirSync(join(dir, 'images'));
});
afterEach(() => rmSync(dir, { recursive: true }));

type Entry = [name: string, content: string, type?: 'symlink'];

async function tarOf(...entries: Entry[]): Promise<Buffer> {
  const tar = pack();
  for (const [name, content, type] of entries)
    if (type) tar.entry({ name, type, linkname: content });
    else tar.entry({ name }, content);
  tar.finalize();
  const parts: Uint8Array[] = [];
  for await (const part of tar) parts.push(part as Uint8Array);
  return Buffer.concat(parts);
}

function read(bytes: Uint8Array) {
  writeFileSync(join(dir, 'a.tar'), bytes);
  return readArchive({
    path: join(dir, 'a.tar'),
    imagesDir: join(dir, 'images'),
    diffPath: join(dir, 'diff'),
    shmPath: join(dir, 'shm'),
    signal,
    onProgress: () => {},
  });
}

const whole: Entry[] = [
  ['config.dump', '{}'],
  ['spec.dump', '{"a":1}'],
  ['checkpoint/core-1.img', 'core'],
  ['rootfs-diff.tar', 'diff'],
  ['dump.log', 'Version: 4'],
  ['container.log', 'ignored'],
];

it.each([
  ['as it is', (bytes: Buffer) => bytes],
  ['with gzip', (bytes: Buffer) => gzipSync(bytes)],
  ['with zstd', (bytes: Buffer) => zstdCompressSync(bytes)],
])('reads an archive %s', async (_, compress) => {
  const { documents, hasDiff, images } = await read(compress(await tarOf(...whole)));
  expect(String(documents.spec)).toBe('{"a":1}');
  expect(documents.log).toBe('Version: 4');
  expect({ hasDiff, images }).toEqual({ hasDiff: true, images: ['core-1.img'] });
  expect(readFileSync(join(dir, 'images/core-1.img'), 'utf8')).toBe('core');
  expect(readFileSync(join(dir, 'diff'), 'utf8')).toBe('diff');
  expect(readdirSync(dir).sort()).toEqual(['a.tar', 'diff', 'images']);
});

it.each([
  ['a link among the images', [['checkpoint/a.img', '/etc/passwd', 'symlink']], 'no regular file'],
  [
    'an image twice',
    [
      ['checkpoint/a.img', 'x'],
      ['checkpoint/a.img', 'y'],
    ],
    '"a.img" is in it twice',
  ],
  [
    'a document twice',
    [
      ['spec.dump', 'x'],
      ['spec.dump', 'y'],
    ],
    'spec.dump is in it twice',
  ],
  ['a way out', [['../x', 'x']], 'leads out'],
] as [string, Entry[], string][])('refuses %s', async (_, entries, said) => {
  await expect(read(await tarOf(...entries))).rejects.toThrow(said);
  expect(readdirSync(dir).sort()).toEqual(['a.tar', 'images']);
});

it('names volumes in which something was, and no others', async () => {
  const volume = async (...entries: Entry[]): Promise<Entry> => {
    const bytes = await tarOf(...entries);
    return [`volumes/v${entries.length}.tar`, bytes.toString('latin1')];
  };
  const { volumes, images } = await read(
    await tarOf(...whole, await volume(['./', '']), await volume(['./', ''], ['./data', 'x'])),
  );
  expect({ volumes, images }).toEqual({ volumes: ['v2'], images: ['core-1.img'] });
});

it('takes /dev/shm and the statistics of the dump', async () => {
  const more: Entry[] = [
    ['devshm-checkpoint.tar', 'tar'],
    ['stats-dump', 'stats'],
    ['checkpoint/stats-dump', 'another'],
  ];
  const { hasShm } = await read(await tarOf(...whole, ...more));
  expect(hasShm).toBe(true);
  expect(readFileSync(join(dir, 'shm'), 'utf8')).toBe('tar');
  expect(readFileSync(join(dir, 'images/stats-dump'), 'utf8')).toBe('stats');
});

it('says of an archive of a pod that it is one', async () => {
  await expect(read(await tarOf(['pod.options', '{}'], ['pod.dump', '{}']))).rejects.toThrow(
    'of a whole pod',
  );
});

it('refuses a document without end', async () => {
  const large = ['spec.dump', 'x'.repeat((16 << 20) + 1)] as Entry;
  await expect(read(await tarOf(large))).rejects.toThrow('spec.dump has more than');
});

it('refuses one that ends too soon', async () => {
  const bytes = await tarOf(['checkpoint/a.img', 'x'.repeat(100_000)]);
  await expect(read(bytes.subarray(0, 50_000))).rejects.toThrow('a damaged one');
});

it('a diff layer has whiteouts for what was deleted, then what was changed', async () => {
  const source = join(dir, 'source');
  writeFileSync(source, gzipSync(await tarOf(['etc/motd', 'new'])));
  const layer = await writeDiffLayer(source, ['/etc/gone', 'a'], join(dir, 'layer'), signal);
  const bytes = readFileSync(join(dir, 'layer'));
  expect(layer).toEqual({ digest: digestOf(bytes), size: bytes.length });
  expect(await deletedBy(join(dir, 'layer'), signal)).toEqual(['/etc/gone', '/a']);
  expect(bytes.includes('etc/motd')).toBe(true);
});

it('what is a whiteout already does not become another', async () => {
  const source = join(dir, 'source');
  writeFileSync(source, await tarOf(['etc/.wh.gone', '']));
  await writeDiffLayer(source, ['/etc/gone', 'other'], join(dir, 'layer'), signal);
  expect(await deletedBy(join(dir, 'layer'), signal)).toEqual(['/other', '/etc/gone']);
});

it('a diff of nothing is none', async () => {
  const source = join(dir, 'source');
  writeFileSync(source, await tarOf());
  expect(digestOf(readFileSync(source))).toBe(EMPTY_TAR);
  expect(await writeDiffLayer(source, [], join(dir, 'layer'), signal)).toBeUndefined();
});

it.each(['/../x', '', '/', 'a/./b', 'a//b'])('a deleted file "%s" is refused', async (path) => {
  await expect(writeDiffLayer(undefined, [path], join(dir, 'layer'), signal)).rejects.toThrow('Cannot trust');
});
