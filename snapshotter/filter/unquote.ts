/** Go's string escapes. Source: Go's strconv.Unquote and containerd, filters/quote.go. */
import type { Quote } from './scanner.ts';

const SIMPLE: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  '\\': 92,
};
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

/** Undefined if `raw`, the text between the quotes, has an escape that Go does not know. */
export function unquote(raw: string, quote: Quote): string | undefined {
  // \x and \ooo stand for single bytes, so the text is put together as bytes.
  const parts: Buffer[] = [];
  for (let at = 0; at < raw.length; ) {
    if (raw[at] !== '\\') {
      const end = raw.indexOf('\\', at);
      parts.push(Buffer.from(raw.slice(at, end < 0 ? undefined : end)));
      at = end < 0 ? raw.length : end;
      continue;
    }
    const kind = raw[at + 1];
    if (kind === undefined) return undefined;
    const simple =
      kind === quote ? kind.charCodeAt(0) : Object.hasOwn(SIMPLE, kind) ? SIMPLE[kind] : undefined;
    if (simple !== undefined) {
      parts.push(Buffer.from([simple]));
      at += 2;
      continue;
    }
    const digits = HEX_DIGITS[kind];
    const code = digits === undefined ? octal(raw, at + 1) : hex(raw, at + 2, digits);
    if (code === undefined) return undefined;
    if (kind === 'u' || kind === 'U') {
      if (code > 0x10ffff) return undefined;
      // Go writes U+FFFD for what is no scalar value, as Buffer.from does for a lone surrogate.
      parts.push(Buffer.from(String.fromCodePoint(code)));
    } else {
      if (code > 255) return undefined;
      parts.push(Buffer.from([code]));
    }
    at += digits === undefined ? 4 : 2 + digits;
  }
  return Buffer.concat(parts).toString();
}

function octal(raw: string, at: number): number | undefined {
  const text = raw.slice(at, at + 3);
  return /^[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : undefined;
}

function hex(raw: string, at: number, digits: number): number | undefined {
  const text = raw.slice(at, at + digits);
  return text.length === digits && /^[0-9a-fA-F]+$/.test(text) ? Number.parseInt(text, 16) : undefined;
}
