/** Sets of chunks as `pageServerPresent` takes them: one bit an ordinal, lowest first. */

export function bitsOf(ordinals: Iterable<number>, count: number): Uint8Array {
  const bits = new Uint8Array(Math.ceil(count / 8));
  for (const ordinal of ordinals) bits[ordinal >> 3] = (bits[ordinal >> 3] ?? 0) | (1 << (ordinal & 7));
  return bits;
}

/** Bits beyond `count` mean nothing. */
export function allBits(count: number): Uint8Array {
  return new Uint8Array(Math.ceil(count / 8)).fill(0xff);
}

/** The first ordinals below `count` that are not set, at most so many. */
export function clearBits(bits: Uint8Array, count: number, most: number): number[] {
  const ordinals: number[] = [];
  for (let ordinal = 0; ordinal < count && ordinals.length < most; ordinal++)
    if (((bits[ordinal >> 3] ?? 0) & (1 << (ordinal & 7))) === 0) ordinals.push(ordinal);
  return ordinals;
}
