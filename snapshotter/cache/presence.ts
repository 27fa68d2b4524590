/** Which chunks of a checkpoint are verified and written, in memory. */
export class Presence {
  readonly #bits: Uint8Array;
  readonly #total: number;
  #chunks = 0;
  #bytes = 0n;
  /** Told of every chunk that becomes present. */
  onAdded: (ordinal: number) => void = () => {};

  constructor(chunkCount: number) {
    this.#total = chunkCount;
    this.#bits = new Uint8Array(Math.ceil(chunkCount / 8));
  }

  has(ordinal: number): boolean {
    return ((this.#bits[ordinal >> 3] ?? 0) & (1 << (ordinal & 7))) !== 0;
  }

  /** `storedBytes`: the chunk's stored length, for the sum. */
  add(ordinal: number, storedBytes: number): void {
    if (this.has(ordinal)) return;
    this.#bits[ordinal >> 3] = (this.#bits[ordinal >> 3] ?? 0) | (1 << (ordinal & 7));
    this.#chunks++;
    this.#bytes += BigInt(storedBytes);
    this.onAdded(ordinal);
  }

  /** A copy, one bit a chunk, lowest first. */
  bits(): Uint8Array {
    return this.#bits.slice();
  }

  /** How many are present. */
  get chunks(): number {
    return this.#chunks;
  }

  get complete(): boolean {
    return this.#chunks === this.#total;
  }

  /** Sum of the stored lengths of what is present. */
  get bytes(): bigint {
    return this.#bytes;
  }
}

/** The bits where none of so many is missing. */
export function allPresent(count: number): Uint8Array {
  const bits = new Uint8Array(Math.ceil(count / 8)).fill(0xff);
  const last = count & 7;
  if (last !== 0) bits[bits.length - 1] = (1 << last) - 1;
  return bits;
}
