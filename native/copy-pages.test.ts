import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { native } from './index.ts';
import { randomBytes, temporaryFolder } from './testing.ts';

const PAGE = 4096;
let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
});

function opened(name: string, flags: string): number {
  const fd = openSync(name.startsWith('/') ? name : join(folder, name), flags);
  onTestFinished(() => closeSync(fd));
  return fd;
}

/** Where a byte of a buffer is in this process: no call says that, but what is written there shows. */
function addressOf(buffer: Buffer, offset: number, memory: number): bigint {
  const mark = randomBytes(11, 64);
  mark.copy(buffer, offset);
  const maps = readFileSync('/proc/self/maps', 'utf8').matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw-p /gm);
  const block = Buffer.alloc(1 << 20);
  for (const [, from, to] of maps) {
    // Terabytes, where a sanitizer keeps its books.
    if (BigInt(`0x${to}`) - BigInt(`0x${from}`) > 1n << 32n) continue;
    for (let at = BigInt(`0x${from}`); at < BigInt(`0x${to}`); at += BigInt(block.length - mark.length)) {
      const size = Number(BigInt(`0x${to}`) - at);
      const got = block.subarray(0, readSync(memory, block, 0, Math.min(size, block.length), at));
      for (let found = got.indexOf(mark); found >= 0; found = got.indexOf(mark, found + 1)) {
        const address = at + BigInt(found);
        const byte = Buffer.alloc(1);
        const holds = (value: number) => {
          buffer[offset] = value;
          return readSync(memory, byte, 0, 1, address) === 1 && byte[0] === value;
        };
        // The mark itself lies there too, and a copy of it in `block`.
        if ([1, 2].every(holds)) return address;
        mark.copy(buffer, offset);
      }
    }
  }
  throw new Error('the buffer is nowhere');
}

describe('copyPages', () => {
  it('puts every page where it belongs, with any number of threads', async () => {
    // Pieces that end within the blocks that a thread takes, and one that has several.
    const pages = [1, 100, 63, 64, 65, 300, 2];
    const source = randomBytes(7, pages.reduce((sum, count) => sum + count, 0) * PAGE);
    writeFileSync(join(folder, 'source'), source);
    let page = 0;
    // The last first, with a hole behind each.
    let at = 0;
    const targets = pages.toReversed().map((count) => {
      const place = at;
      at += (count + 3) * PAGE;
      return place;
    });
    targets.reverse();
    const expected = Buffer.alloc(at - 3 * PAGE);
    const pieces = pages.flatMap((count, i) => {
      source.copy(expected, targets[i], page * PAGE, (page + count) * PAGE);
      page += count;
      return [BigInt(targets[i] ?? 0), BigInt(page - count), BigInt(count)];
    });
    for (const threads of [1, 2, 7]) {
      const target = `target-${threads}`;
      const copied = await native.copyPages(
        opened(target, 'w+'),
        opened('source', 'r'),
        BigUint64Array.from(pieces),
        threads,
      );
      expect(copied).toBe(BigInt(source.length));
      expect(readFileSync(join(folder, target)).equals(expected)).toBe(true);
    }
  });

  it('leaves holes where all is zeros', async () => {
    writeFileSync(
      join(folder, 'source'),
      Buffer.concat([Buffer.alloc(64 * PAGE), Buffer.alloc(64 * PAGE, 1)]),
    );
    const all = BigUint64Array.of(0n, 0n, 128n);
    expect(await native.copyPages(opened('target', 'w+'), opened('source', 'r'), all, 2)).toBe(
      BigInt(64 * PAGE),
    );
  });

  it('writes into the memory of a process', async () => {
    const place = Buffer.allocUnsafeSlow(4 * PAGE).fill(3);
    writeFileSync(join(folder, 'source'), Buffer.alloc(PAGE, 9));
    const memory = opened('/proc/self/mem', 'r+');
    const address = addressOf(place, PAGE, memory);
    await native.copyPages(memory, opened('source', 'r'), BigUint64Array.of(address, 0n, 1n), 1);
    expect(place.subarray(PAGE, 2 * PAGE).every((byte) => byte === 9)).toBe(true);
    expect(place[PAGE - 1]).toBe(3);
    expect(place[2 * PAGE]).toBe(3);
  });

  it.each([
    ['a source that is too short', [0n, 0n, 2n], 'pread'],
    ['memory that is not there', [4096n, 0n, 1n], 'pwrite'],
  ] as const)('fails with %s', async (_, pieces, syscall) => {
    writeFileSync(join(folder, 'source'), Buffer.alloc(PAGE, 9));
    const target = syscall === 'pwrite' ? opened('/proc/self/mem', 'r+') : opened('target', 'w+');
    const copying = native.copyPages(target, opened('source', 'r'), BigUint64Array.from(pieces), 2);
    await expect(copying).rejects.toMatchObject({ code: 'EIO', syscall });
  });

  it('refuses pieces that are not in order', () => {
    const [target, source] = [opened('target', 'w+'), opened('/dev/zero', 'r')];
    for (const pieces of [
      [0n, 1n, 1n, 0n, 0n, 1n],
      [0n, 0n, 0n],
      [1n << 63n, 0n, 1n],
      [0n, 0n],
    ])
      expect(() => native.copyPages(target, source, BigUint64Array.from(pieces), 1)).toThrow(TypeError);
  });
});

describe('watchOpens', () => {
  it('tells who of a directory is opened, until it is stopped', async () => {
    native.makeFifo(join(folder, 'fifo'));
    writeFileSync(join(folder, 'file'), '');
    const heard: string[] = [];
    const watch = native.watchOpens(folder, (_, names = '') => heard.push(...names.trimEnd().split('\n')));
    onTestFinished(() => native.watchStop(watch));
    opened('fifo', 'r+');
    opened('file', 'r');
    await expect.poll(() => heard).toEqual(['fifo', 'file']);
    expect(() => native.makeFifo(join(folder, 'fifo'))).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect(() => native.watchOpens(join(folder, 'file'), () => {})).toThrow(
      expect.objectContaining({ code: 'ENOTDIR' }),
    );
  });
});
