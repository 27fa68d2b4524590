/**
 * 64-bit values of protobufjs's static code. It hands out `long` objects where it finds that package and numbers where it does
 * not (precise to 2^53 only).
 */
import { util } from 'protobufjs/minimal.js';

interface LongLike {
  readonly low: number;
  readonly high: number;
  readonly unsigned: boolean;
}

interface LongConstructor {
  fromBits(low: number, high: number, unsigned: boolean): LongLike;
}

export type Int64 = number | LongLike;

/** The exact value as a bigint; null and undefined count as 0, proto's default. */
export function toBigInt(value: Int64 | null | undefined): bigint {
  if (value === null || value === undefined) return 0n;
  if (typeof value === 'number') return BigInt(value);
  const bits = (BigInt(value.high >>> 0) << 32n) | BigInt(value.low >>> 0);
  return value.unsigned ? bits : BigInt.asIntN(64, bits);
}

/** What the generated encoder takes for an unsigned 64-bit field. */
export function fromBigInt(value: bigint): Int64 {
  const Long = util.Long as unknown as LongConstructor | null;
  if (!Long) {
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError(`${value} needs the package "long"`);
    return Number(value);
  }
  return Long.fromBits(Number(value & 0xffffffffn) | 0, Number((value >> 32n) & 0xffffffffn) | 0, true);
}
