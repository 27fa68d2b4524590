import { describe, expect, it } from 'vitest';
import { seeded } from '../random.test-helper.ts';
import { ChunkedDecoder } from './chunked.ts';
import { BadHead } from './http-head.ts';

const decode = (parts: readonly Buffer[]) => {
  const decoder = new ChunkedDecoder();
  const got = parts.flatMap((part) => [...decoder.decode(part)].map((data) => Buffer.from(data)));
  return { bytes: Buffer.concat(got), isDone: decoder.isDone };
};

describe('a chunked body', () => {
  it('is whole however its stream is cut', () => {
    const random = seeded(5);
    for (let round = 0; round < 100; round++) {
      const chunks = Array.from({ length: random.int(6) }, () => random.bytes(1 + random.int(500)));
      const coded = Buffer.concat([
        ...chunks.flatMap((chunk) => [
          Buffer.from(`${chunk.length.toString(16)}${random.int(2) ? ';a="b"' : ''}\r\n`),
          chunk,
          Buffer.from('\r\n'),
        ]),
        Buffer.from(random.int(2) ? '0\r\nx: y\r\n\r\n' : '000\r\n\r\n'),
      ]);
      const parts: Buffer[] = [];
      for (let at = 0; at < coded.length; ) {
        const length = 1 + random.int(random.int(2) ? 3 : 700);
        parts.push(coded.subarray(at, at + length));
        at += length;
      }
      expect(decode(parts)).toEqual({ bytes: Buffer.concat(chunks), isDone: true });
      expect(decode(parts.slice(0, -1)).isDone).toBe(false);
    }
  });

  it.each([
    ['no size', 'x\r\n'],
    ['a negative size', '-1\r\n'],
    ['a size beyond all numbers', '1000000000000000\r\n'],
    ['a chunk that is too long', '1\r\nabc\r\n'],
    ['more behind the end', '0\r\n\r\nx'],
    ['a line without an end', 'x'.repeat(20_000)],
  ])('is refused: %s', (_, text) => {
    expect(() => decode([Buffer.from(text)])).toThrow(BadHead);
  });
});
