import { hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { type Random, seeded } from '../random.test-helper.ts';
import { decodeChunk } from './decode-chunk.ts';
import { encodeChunk } from './encode-chunk.ts';
import { decodePlanes, encodePlanes, planeGains } from './planes.ts';

/** As a model's weights are made: floats from a normal distribution, of four bytes or the upper two of them. */
function weights(random: Random, bytes: number, size: 2 | 4): Buffer {
  const out = Buffer.alloc(bytes);
  const float = Buffer.alloc(4);
  const uniform = () => (random.int(2 ** 32 - 1) + 1) / 2 ** 32;
  for (let at = 0; at + size <= bytes; at += size) {
    float.writeFloatLE(0.05 * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
    float.copy(out, at, 4 - size, 4);
  }
  return out;
}

function roundTrip(bytes: Buffer) {
  const { stored, codec } = encodeChunk(bytes);
  const record = {
    storedLength: stored.length,
    decodedLength: bytes.length,
    crc32: crc32(bytes),
    codec,
    digest: hash('sha256', stored, 'buffer'),
  };
  expect(stored.length).toBeLessThanOrEqual(bytes.length);
  expect(Buffer.compare(decodeChunk(stored, record), bytes)).toBe(0);
  return { codec, share: stored.length / bytes.length };
}

const CHUNK = 512 * 1024;

describe('encodeChunk()', () => {
  test('puts weights into planes: a sixth less of float32, a third less of bfloat16', () => {
    const float32 = roundTrip(weights(seeded(1), CHUNK, 4));
    expect(float32.codec).toBe('planes');
    expect(float32.share).toBeLessThan(0.84);
    const bfloat16 = roundTrip(weights(seeded(2), CHUNK, 2));
    expect(bfloat16.codec).toBe('planes');
    expect(bfloat16.share).toBeLessThan(0.68);
  });

  test('leaves noise as it is, and to LZ4 what zstd does not make much smaller', () => {
    expect(roundTrip(seeded(3).bytes(CHUNK))).toEqual({ codec: 'lz4', share: 1 });
    expect(roundTrip(Buffer.alloc(4096, 'thaw')).codec).toBe('lz4');
  });

  test('takes zstd for what it makes much smaller', () => {
    const random = seeded(4);
    const pointers = Buffer.alloc(CHUNK);
    for (let at = 0; at < CHUNK; at += 8)
      pointers.writeBigUInt64LE(0x7f12_3400_0000n + BigInt(random.int(60_000) * 16), at);
    expect(roundTrip(pointers).codec).toBe('zstd');
  });

  test.each(Array.from({ length: 30 }, (_, i) => i + 10))(
    'gives back what it was given (seed %i)',
    (seed) => {
      const random = seeded(seed);
      const length = 1 + random.int(40_000);
      const kinds = [
        () => weights(random, length, 4),
        () => weights(random, length, 2),
        () => random.bytes(length),
        () =>
          Buffer.concat([weights(random, length >> 1, 4), Buffer.alloc(length >> 1), random.bytes(length)]),
        () => Buffer.from(`${'text '.repeat(random.int(2000))}.`),
      ];
      for (const kind of kinds) roundTrip(kind());
    },
  );
});

describe('planes', () => {
  test('are not made of what has no whole words, or no plane that gains', () => {
    expect(planeGains(weights(seeded(5), 4098, 4))).toBeUndefined();
    expect(planeGains(seeded(6).bytes(65_536))).toBeUndefined();
    expect(planeGains(Buffer.alloc(0))).toBeUndefined();
    expect(planeGains(weights(seeded(5), 65_536, 4))).toEqual({
      gains: [false, false, false, true],
      likeFloats: true,
    });
  });

  test('are of their length or refused, whatever their bytes are', () => {
    const random = seeded(7);
    const words = weights(random, 20_000, 4);
    const good = encodePlanes(words, { gains: [true, true, false, true], likeFloats: true });
    expect(decodePlanes(good, words.length).equals(words)).toBe(true);
    for (const length of [0, 4, 19_996, 20_001, 20_004]) expect(() => decodePlanes(good, length)).toThrow();
    for (let round = 0; round < 1000; round++) {
      const damaged = Buffer.from(good);
      damaged[random.int(round % 2 === 0 ? 16 : damaged.length)] = random.int(256);
      const cut = damaged.subarray(0, damaged.length - (round % 3 === 0 ? random.int(30) : 0));
      try {
        expect(decodePlanes(cut, words.length)).toHaveLength(words.length);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }
  });
});
