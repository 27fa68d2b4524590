import { describe, expect, it } from 'vitest';
import {
  formatBytes,
  formatMs,
  formatPairs,
  formatRatio,
  formatTable,
  printable,
  shortDigest,
} from './format.ts';

describe('formatBytes()', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.00 KiB'],
    [1536n, '1.50 KiB'],
    [123_456_789n, '118 MiB'],
    [1_300_000_000, '1.21 GiB'],
    [5n * 1024n ** 6n, '5120 PiB'],
  ])('shows %s as %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));
});

describe('formatMs()', () => {
  it.each([
    [0.4, '0 ms'],
    [999, '999 ms'],
    [999.7, '1.0 s'],
    [59_949, '59.9 s'],
    [59_960, '1 min 0 s'],
    [83_400, '1 min 23 s'],
  ])('shows %s as %s', (ms, text) => expect(formatMs(ms)).toBe(text));
});

describe('tables', () => {
  it('aligns columns, right where the heading asks for it', () => {
    expect(
      formatTable(
        ['ID', 'SIZE>'],
        [
          ['a', '1 B'],
          ['bbb', '20 B'],
        ],
      ),
    ).toEqual(['ID   SIZE', 'a     1 B', 'bbb  20 B']);
  });
  it('puts the values of pairs in one column', () => {
    expect(
      formatPairs([
        ['a', '1'],
        ['long', '2'],
      ]),
    ).toEqual(['a     1', 'long  2']);
  });
});

it('shows no ratio where there is nothing to compare', () => {
  expect(formatRatio(0, 0)).toBe('–');
  expect(formatRatio(300n, 100n)).toBe('3.00×');
});

it('shortens only digests', () => {
  expect(shortDigest(`sha256:${'ab'.repeat(32)}`)).toBe('sha256:abababababab…');
  expect(shortDigest('latest')).toBe('latest');
});

it('takes escape sequences and direction marks out of foreign text', () => {
  expect(printable('ok\u001b[2J\u202egnp.exe\u0007')).toBe('ok?[2J?gnp.exe?');
});
