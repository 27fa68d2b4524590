import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, zstdCompressSync } from 'node:zlib';
import { compressSync, uncompressSync } from 'lz4-napi';
import { describe, expect, onTestFinished, test } from 'vitest';
import { decodePlanes, encodePlanes } from '../checkpoint/pack/planes.ts';
import { native } from './index.ts';
import { openDescriptors, randomBytes, temporaryFolder } from './testing.ts';

const [ZSTD, PLANES] = [1, 2];
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
/** A raw LZ4 block: the reference encoder puts the decoded length, four bytes, in front. */
const encode = (bytes: Buffer) => compressSync(bytes).subarray(4);

function file(): { path: string; fd: number } {
  const path = join(temporaryFolder(), 'file');
  const fd = openSync(path, 'w+');
  onTestFinished(() => closeSync(fd));
  return { path, fd };
}

/** Bytes of mixed kinds: runs, repeats and noise, as memory has. */
function memoryLike(seed: number, length: number): Buffer {
  const noise = randomBytes(seed, length + 64);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const kind = (noise[at] ?? 0) % 3;
    const span = Math.min(length - at, 16 + (noise[at + 1] ?? 0) * 8);
    if (kind === 1) noise.copy(bytes, at, at, at + span);
    if (kind === 2) bytes.fill(noise.subarray(at, at + 5), at, at + span);
    at += span;
  }
  return bytes;
}

/** Floats of four bytes from a normal distribution, as a model's weights are made. */
function weights(seed: number, count: number): Buffer {
  const noise = randomBytes(seed, 8 * count);
  const floats = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const [u, v] = [(noise.readUInt32LE(8 * i) + 1) / 2 ** 32, noise.readUInt32LE(8 * i + 4) / 2 ** 32];
    floats[i] = 0.05 * Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
  }
  return Buffer.from(floats.buffer);
}

const text = Buffer.from('to be or not to be, '.repeat(5000));

describe('writeChunk', () => {
  test('decodes an LZ4 block to its place', async () => {
    const { path, fd } = file();
    const stored = encode(text);
    await native.writeChunk(fd, 4096n, stored, text.length, sha256(stored), crc32(text));
    const written = readFileSync(path);
    expect(written.subarray(4096).equals(text)).toBe(true);
    expect(written.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
  });

  test('decodes a zstd frame to its place, and nothing else where it is to be one', async () => {
    const { path, fd } = file();
    const write = (stored: Uint8Array, length: number) =>
      native.writeChunk(fd, 4096n, stored, length, sha256(stored), crc32(text), ZSTD);
    const frame = zstdCompressSync(text);
    await write(frame, text.length);
    expect(readFileSync(path).subarray(4096).equals(text)).toBe(true);
    for (const [stored, length] of [
      [frame, text.length - 1],
      [frame, text.length + 1],
      [frame.subarray(0, -1), text.length],
      [encode(text), text.length],
      [text, text.length],
    ] as const)
      await expect(write(stored, length)).rejects.toMatchObject({ code: 'EBADMSG' });
    const noise = randomBytes(8, 3000);
    const longer = zstdCompressSync(noise);
    expect(longer.length).toBeGreaterThan(noise.length);
    await native.writeChunk(fd, 0n, longer, 3000, sha256(longer), crc32(noise), ZSTD);
    expect(readFileSync(path).subarray(0, 3000).equals(noise)).toBe(true);
  });

  test('decodes planes to their place, and nothing else where they are to be some', async () => {
    const { path, fd } = file();
    const words = weights(3, 131_072);
    const stored = encodePlanes(words, { gains: [true, true, true, true], likeFloats: true });
    expect(stored.length).toBeLessThan(0.85 * words.length);
    const write = (bytes: Uint8Array, length: number) =>
      native.writeChunk(fd, 4096n, bytes, length, sha256(bytes), crc32(words), PLANES);
    await write(stored, words.length);
    expect(readFileSync(path).subarray(4096).equals(words)).toBe(true);
    const changed = (change: (bytes: Buffer) => void) => {
      const bytes = Buffer.from(stored);
      change(bytes);
      return bytes;
    };
    const quarter = words.length / 4;
    for (const [bytes, length] of [
      [stored.subarray(0, -1), words.length],
      [Buffer.concat([stored, Buffer.of(0)]), words.length],
      [stored.subarray(0, 15), words.length],
      [stored, words.length - 4],
      [stored, words.length + 4],
      [stored, words.length - 1],
      [words, words.length],
      [zstdCompressSync(words), words.length],
      [changed((b) => b.writeUInt32LE(0, 0)), words.length],
      [changed((b) => b.writeUInt32LE(quarter + 1, 0)), words.length],
      [changed((b) => b.writeUInt32LE(0xffff_ffff, 12)), words.length],
      [changed((b) => b.writeUInt32LE(b.readUInt32LE(12) - 1, 12)), words.length],
      [changed((b) => b.fill(0xff, b.length - 200, b.length)), words.length],
    ] as const)
      await expect(write(bytes, length)).rejects.toMatchObject({ code: 'EBADMSG' });
    expect(() => native.writeChunk(fd, 0n, stored, 4, sha256(stored), 0, 3)).toThrow('argument 7');
  });

  test.each(Array.from({ length: 40 }, (_, i) => i + 1))(
    'planes of any length and kind agree with the other decoder, damaged ones too, seed %i',
    (seed) => {
      const { path, fd } = file();
      const random = randomBytes(seed, 4096);
      const count = 8 + (random.readUInt32LE() % 5000);
      const words = seed % 2 === 0 ? weights(seed, count) : memoryLike(seed, 4 * count);
      const planes = [0, 1, 2, 3].map((plane) => Buffer.from(words.filter((_, i) => i % 4 === plane)));
      const parts = planes.map((plane, i) => {
        const frame = zstdCompressSync(plane);
        return (random[4 + i] ?? 0) < 128 && frame.length < plane.length ? frame : plane;
      });
      const head = Buffer.alloc(16);
      for (const [i, { length }] of parts.entries()) head.writeUInt32LE(length, 4 * i);
      const good = Buffer.concat([head, ...parts]);
      const expected = (stored: Buffer) => {
        try {
          return decodePlanes(stored, words.length);
        } catch {
          return undefined;
        }
      };
      const check = (stored: Buffer) => {
        const want = expected(stored);
        const run = () =>
          native.writeChunkHere(fd, 0n, stored, words.length, sha256(stored), want ? crc32(want) : 0, PLANES);
        if (!want) return expect(run).toThrow(/^EBADMSG: /);
        run();
        return expect(readFileSync(path).subarray(0, words.length).equals(want)).toBe(true);
      };
      check(good);
      expect(expected(good)?.equals(words)).toBe(true);
      for (let round = 0; round < 60; round++) {
        const damaged = Buffer.from(good);
        const at = random.readUInt16LE(20 + round * 6);
        // Half of them in the lengths.
        damaged[round % 2 === 0 ? at % 16 : at % damaged.length] = random[22 + round * 6] ?? 0;
        check(damaged.subarray(0, damaged.length - (round % 3 === 0 ? at % 20 : 0)));
      }
    },
  );

  test('writes bytes that are stored as they are', async () => {
    const { path, fd } = file();
    const noise = randomBytes(7, 300_000);
    await native.writeChunk(fd, 0n, noise, noise.length, sha256(noise), crc32(noise));
    expect(readFileSync(path).equals(noise)).toBe(true);
  });

  test('writes beyond 4 GiB', async () => {
    const { path, fd } = file();
    await native.writeChunk(fd, 5_000_000_000n, text, text.length, sha256(text), crc32(text));
    expect(statSync(path).size).toBe(5_000_000_000 + text.length);
    ftruncateSync(fd, 0);
  });

  const stored = encode(text);
  const torn = Buffer.from(stored);
  torn.fill(0xff, 10, 30);
  const badHash = /^EBADMSG: bad message, the stored bytes do not match their SHA-256 digest$/;
  const badBlock = /^EBADMSG: bad message, the stored bytes are no LZ4 block of \d+ decoded bytes$/;
  const badCrc = /^EBADMSG: bad message, the decoded bytes do not match their CRC-32$/;
  test.each([
    ['a flipped byte', torn, text.length, sha256(stored), crc32(text), badHash],
    ['a truncated block', stored.subarray(0, -1), text.length, sha256(stored), crc32(text), badHash],
    ['an invalid block with the right digest', torn, text.length, sha256(torn), crc32(text), badBlock],
    [
      'a truncated block with the right digest',
      stored.subarray(0, -1),
      text.length,
      sha256(stored.subarray(0, -1)),
      crc32(text),
      badBlock,
    ],
    ['a decoded length too small', stored, text.length - 1, sha256(stored), crc32(text), badBlock],
    ['a decoded length too large', stored, text.length + 1, sha256(stored), crc32(text), badBlock],
    ['a wrong checksum', stored, text.length, sha256(stored), crc32(text) ^ 1, badCrc],
    ['nothing', Buffer.alloc(0), text.length, sha256(Buffer.alloc(0)), crc32(text), badBlock],
    [
      'more stored than decoded bytes',
      text,
      10,
      sha256(text),
      crc32(text.subarray(0, 10)),
      /the stored bytes are longer than the decoded length$/,
    ],
  ])('refuses %s and writes nothing', async (_, bytes, length, digest, checksum, message) => {
    const { path, fd } = file();
    const writing = native.writeChunk(fd, 0n, bytes, length, digest, checksum >>> 0);
    await expect(writing).rejects.toThrow(message);
    await expect(writing).rejects.toMatchObject({ code: 'EBADMSG', errno: -74 });
    expect(statSync(path).size).toBe(0);
  });

  test('reports what the file system says', async () => {
    const { path } = file();
    const readOnly = openSync(path, 'r');
    await expect(
      native.writeChunk(readOnly, 0n, text, text.length, sha256(text), crc32(text)),
    ).rejects.toMatchObject({ code: 'EBADF', syscall: 'pwrite' });
    closeSync(readOnly);
  });

  test('goes on when the caller closes its descriptor meanwhile', async () => {
    const path = join(temporaryFolder(), 'file');
    const fd = openSync(path, 'w+');
    const writing = native.writeChunk(fd, 0n, stored, text.length, sha256(stored), crc32(text));
    closeSync(fd);
    await writing;
    expect(readFileSync(path).equals(text)).toBe(true);
  });

  test('many at once land in their places and leave no descriptor', async () => {
    const { path, fd } = file();
    const before = openDescriptors();
    const chunks = Array.from({ length: 64 }, (_, i) => memoryLike(i + 1, 65_536));
    await Promise.all(
      chunks.map((chunk, i) => {
        const block = encode(chunk);
        return native.writeChunk(fd, BigInt(i * 65_536), block, 65_536, sha256(block), crc32(chunk));
      }),
    );
    expect(readFileSync(path).equals(Buffer.concat(chunks))).toBe(true);
    expect(openDescriptors()).toBe(before);
  });

  test('refuses arguments that no chunk has', () => {
    const digest = sha256(text);
    const write = (offset: bigint, length: number, hash: Uint8Array, checksum: number) => () =>
      native.writeChunk(1, offset, text, length, hash, checksum);
    expect(write(-1n, 10, digest, 0)).toThrow('argument 2');
    expect(write(0n, 0, digest, 0)).toThrow('argument 4');
    expect(write(0n, 2 ** 24 + 1, digest, 0)).toThrow('argument 4');
    expect(write(0n, 10, digest.subarray(1), 0)).toThrow('argument 5');
    expect(write(0n, 10, digest, -1)).toThrow('argument 6');
  });
});

describe('decodeLz4 agrees with the reference', () => {
  test.each(Array.from({ length: 60 }, (_, i) => i + 1))('seed %i', (seed) => {
    const length = 1 + (randomBytes(seed, 4).readUInt32LE() % 300_000);
    const bytes = memoryLike(seed, length);
    const prefixed = compressSync(bytes);
    expect(prefixed.readUInt32LE(0)).toBe(length);
    expect(native.decodeLz4(prefixed.subarray(4), length).equals(bytes)).toBe(true);
  });

  test.each(Array.from({ length: 60 }, (_, i) => i + 1001))('on damaged blocks too, seed %i', (seed) => {
    const length = 20_000;
    const block = Buffer.from(encode(memoryLike(seed, length)));
    const noise = randomBytes(seed, 64);
    for (let i = 0; i < 8; i++) block[noise.readUInt32LE(i * 4) % block.length] = noise[40 + i] ?? 0;
    const header = Buffer.alloc(4);
    header.writeUInt32LE(length);
    let expected: Buffer | undefined;
    try {
      expected = uncompressSync(Buffer.concat([header, block]));
    } catch {
      expected = undefined;
    }
    // The reference may stop early; only a full-length result counts as decoded here.
    if (expected?.length === length) expect(native.decodeLz4(block, length).equals(expected)).toBe(true);
    else expect(() => native.decodeLz4(block, length)).toThrow(/^EBADMSG: /);
  });

  test('and refuses an absurd length', () => {
    expect(() => native.decodeLz4(Buffer.alloc(10), 2 ** 31)).toThrow(TypeError);
  });
});
