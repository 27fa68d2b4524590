/** Texts of headers in Huffman's code. Source: RFC 7541, section 5.2 and appendix B. */
import { ErrorCode, Http2Error } from './frames.ts';

/** Bits of each byte's code, and of the end mark's. The codes themselves follow: shorter ones first, then by value. */
const BITS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const END_MARK = 256;
const LONGEST = 30;

/** Symbols in the order of their codes; of each length the first code, where its symbol is, and the code behind the last. */
const SYMBOLS: number[] = [];
const LENGTHS: { first: number; at: number; end: number }[] = [];
for (let bits = 0, code = 0; bits <= LONGEST; bits++, code *= 2) {
  const symbols = [...BITS.keys()].filter((symbol) => BITS[symbol] === bits);
  LENGTHS.push({ first: code, at: SYMBOLS.length, end: code + symbols.length });
  SYMBOLS.push(...symbols);
  code += symbols.length;
}

export function decodeHuffman(bytes: Uint8Array): string {
  let text = '';
  let code = 0;
  let bits = 0;
  for (const byte of bytes) {
    for (let shift = 7; shift >= 0; shift--) {
      code = code * 2 + ((byte >> shift) & 1);
      const length = LENGTHS[++bits];
      if (!length) throw new Http2Error(ErrorCode.compression, 'a header has no valid code');
      if (code >= length.end) continue;
      const symbol = SYMBOLS[length.at + code - length.first] ?? END_MARK;
      if (symbol === END_MARK) throw new Http2Error(ErrorCode.compression, 'a header has an end mark');
      text += String.fromCharCode(symbol);
      code = 0;
      bits = 0;
    }
  }
  // The last byte is filled up with the first bits of the end mark, which are ones.
  if (bits > 7 || code !== 2 ** bits - 1)
    throw new Http2Error(ErrorCode.compression, 'a header ends in the middle of a code');
  return text;
}
