/** Fields of tar headers. Sources: POSIX.1-2017, pax; GNU tar manual, "Basic Tar Format". Strings are bytes, as latin1. */
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';

/** Nanoseconds since 1970 do not fit a double, so they are apart. */
export interface Time {
  /** May be negative. */
  seconds: bigint;
  nanoseconds: number;
}

/** INVALID_ARGUMENT: the layer stays as it is. */
export function unsuitable(why: string): CheckpointError {
  return new CheckpointError(Code.invalidArgument, `Cannot read the layer on demand: ${why}`);
}

export function text(block: Buffer, at: number, length: number): string {
  const end = block.indexOf(0, at);
  return block.toString('latin1', at, end === -1 || end > at + length ? at + length : end);
}

/** Octal digits, or big-endian base 256 where the top bit is set (GNU). */
export function number(block: Buffer, at: number, length: number): number {
  const first = block[at] as number;
  if ((first & 0x80) !== 0) {
    let value = first === 0xff ? -1n : BigInt(first & 0x7f);
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[at + i] as number);
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER))
      throw unsuitable('a number in its tar is out of range');
    return Number(value);
  }
  const digits = text(block, at, length).trim();
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits)) throw unsuitable('a number in its tar is not octal');
  return Number.parseInt(digits, 8);
}

/** Whether the header's sum is right; old tars summed signed bytes. */
export function hasRightSum(block: Buffer): boolean {
  let unsigned = 0;
  let signed = 0;
  for (const [i, byte] of block.entries()) {
    const counted = i >= 148 && i < 156 ? 0x20 : byte;
    unsigned += counted;
    signed += (counted << 24) >> 24;
  }
  const stated = number(block, 148, 8);
  return stated === unsigned || stated === signed;
}

/** Records of a pax header: `<length> <key>=<value>\n`, the length counting itself. */
export function paxRecords(bytes: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const length = space === -1 ? Number.NaN : Number(bytes.toString('latin1', at, space));
    const end = at + length;
    if (!Number.isInteger(length) || length < 5 || end > bytes.length || bytes[end - 1] !== 0x0a)
      throw unsuitable('a pax header in its tar is broken');
    const equals = bytes.indexOf(0x3d, space);
    if (equals === -1 || equals >= end) throw unsuitable('a pax header in its tar is broken');
    records.set(bytes.toString('latin1', space + 1, equals), bytes.subarray(equals + 1, end - 1));
    at = end;
  }
  return records;
}

/** A decimal number of seconds, maybe negative, maybe with a fraction of which nine digits count. */
export function paxTime(value: Buffer): Time {
  const match = /^(-?)(\d{1,18})(?:\.(\d*))?$/.exec(value.toString('latin1'));
  if (!match) throw unsuitable('a time in its tar is no number');
  const [, sign, whole = '0', fraction = ''] = match;
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  const seconds = BigInt(whole);
  if (sign !== '-') return { seconds, nanoseconds };
  return nanoseconds === 0
    ? { seconds: -seconds, nanoseconds }
    : { seconds: -seconds - 1n, nanoseconds: 1_000_000_000 - nanoseconds };
}

export function paxInteger(value: Buffer): number {
  const digits = value.toString('latin1');
  const parsed = Number(digits);
  if (!/^\d+$/.test(digits) || !Number.isSafeInteger(parsed))
    throw unsuitable('a number in a pax header of its tar is none');
  return parsed;
}
