import { expect, test } from 'vitest';
import { seeded } from '../random.test-helper.ts';
import { compressChunk, decodeBlock } from './lz4.ts';

test('what compresses comes back; what does not is stored as it is', () => {
  const random = seeded(5);
  for (let round = 0; round < 40; round++) {
    const bytes = random.bytes(1 + random.int(20_000));
    if (round % 2 === 0) bytes.fill(7, Math.floor(bytes.length / 3));
    const stored = compressChunk(bytes);
    expect(stored.length).toBeLessThanOrEqual(bytes.length);
    if (stored.length < bytes.length) expect(decodeBlock(stored, bytes.length).equals(bytes)).toBe(true);
    else expect(stored.equals(bytes)).toBe(true);
  }
});

test('a block decodes to exactly its length or not at all', () => {
  const block = compressChunk(Buffer.alloc(5000, 3));
  for (const length of [0, 4999, 5001, 1 << 20]) expect(() => decodeBlock(block, length)).toThrow();
});

test('damaged blocks never crash the decoder', () => {
  const random = seeded(6);
  const block = compressChunk(Buffer.from('abcdefgh'.repeat(500)));
  for (let round = 0; round < 2000; round++) {
    const damaged = Buffer.from(block);
    damaged[random.int(damaged.length)] = random.int(256);
    try {
      expect(decodeBlock(damaged.subarray(0, 1 + random.int(damaged.length)), 4000)).toHaveLength(4000);
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
    }
  }
});

// From the LZ4 block format: token 0x00 and its literals only, then a match.
test('decodes a block made by hand', () => {
  expect(decodeBlock(Buffer.from([0x30, 0x61, 0x62, 0x63]), 3).toString()).toBe('abc');
});
