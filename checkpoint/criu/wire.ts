/**
 * Protobuf messages as they lie in memory: to change one field of an image and leave every other byte, also of fields that
 * are not known here. Source: the protobuf encoding specification.
 */
import { broken } from './framing.ts';

export interface WireField {
  number: number;
  /** 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. */
  type: number;
  /** The whole field with its tag. */
  whole: Uint8Array;
  /** The value: of type 2 without its length. */
  value: Uint8Array;
}

/** Throws dataLoss for what is no message; `name` is the image's. */
export function* wireFields(message: Uint8Array, name: string): Generator<WireField> {
  for (let at = 0; at < message.length; ) {
    const tag = readVarint(message, at, name);
    const type = Number(tag.value & 7n);
    const { start, end } = spanOf(message, tag.end, type, name);
    if (end > message.length) throw broken(name, 'an entry is cut off');
    yield {
      number: Number(tag.value >> 3n),
      type,
      whole: message.subarray(at, end),
      value: message.subarray(start, end),
    };
    at = end;
  }
}

function spanOf(message: Uint8Array, at: number, type: number, name: string): { start: number; end: number } {
  switch (type) {
    case 0:
      return { start: at, end: readVarint(message, at, name).end };
    case 1:
      return { start: at, end: at + 8 };
    case 2: {
      const { value, end } = readVarint(message, at, name);
      return { start: end, end: end + Number(value) };
    }
    case 5:
      return { start: at, end: at + 4 };
    default:
      throw broken(name, 'an entry has a field of a type that is not known');
  }
}

export function readVarint(bytes: Uint8Array, at: number, name: string): { value: bigint; end: number } {
  let value = 0n;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) break;
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) return { value, end: at + i + 1 };
  }
  throw broken(name, 'an entry cannot be decoded');
}

export function writeVarint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    if (rest < 0x80n) return Uint8Array.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
}

/** A field of type 2. */
export function bytesField(number: number, value: Uint8Array): Uint8Array {
  return Buffer.concat([writeVarint(BigInt((number << 3) | 2)), writeVarint(BigInt(value.length)), value]);
}

/** A field of type 0. */
export function varintField(number: number, value: bigint): Uint8Array {
  return Buffer.concat([writeVarint(BigInt(number << 3)), writeVarint(value)]);
}
