/** What one attempt to fetch a checkpoint could not get although the rest of it may come. */
import type { ChunkIndex } from '../../checkpoint/index-format.ts';
import type { SnapshotError } from '../error.ts';
import { chunkAt } from './chunk-lookup.ts';

/** A layer with so many corrupt chunks is not worth asking for the rest: each takes some seconds to give up. */
const TOO_MANY_CORRUPT = 32;

export class GivenUp {
  readonly #index: ChunkIndex;
  readonly #chunks = new Map<number, SnapshotError>();
  readonly #layers = new Map<number, SnapshotError>();
  readonly #corruptIn = new Map<number, number>();
  /** The first failure of all. */
  first: SnapshotError | undefined;

  constructor(index: ChunkIndex) {
    this.#index = index;
  }

  chunk(ordinal: number, error: SnapshotError): void {
    if (this.#chunks.has(ordinal)) return;
    this.#chunks.set(ordinal, error);
    this.first ??= error;
    const { layer } = chunkAt(this.#index, ordinal).chunk;
    const corrupt = (this.#corruptIn.get(layer) ?? 0) + 1;
    this.#corruptIn.set(layer, corrupt);
    if (corrupt >= TOO_MANY_CORRUPT) this.layer(layer, error);
  }

  /** Nothing more is read from this data layer. */
  layer(layer: number, error: SnapshotError): void {
    if (!this.#layers.has(layer)) this.#layers.set(layer, error);
    this.first ??= error;
  }

  /** Why a chunk was given up; undefined if it was not. */
  errorOf(ordinal: number): SnapshotError | undefined {
    const own = this.#chunks.get(ordinal);
    if (own || this.#layers.size === 0) return own;
    return this.#layers.get(chunkAt(this.#index, ordinal).chunk.layer);
  }
}
