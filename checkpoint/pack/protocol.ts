/** What the driver and the worker threads of packing tell each other. */
import type { Piece } from './plan.ts';

export interface WorkerSetup {
  imagesDir: string;
  scratchDir: string;
  /** Names by Piece.file. */
  names: string[];
  chunkBytes: number;
  /** Most stored bytes in one data layer. */
  layerBytes: number;
  shared: SharedArrayBuffer;
}

export type WorkerTask =
  | { kind: 'pack'; lane: number; pieces: Piece[] }
  | { kind: 'finish'; path: string; dataBytes: number; ordinal: number };

/** A data layer whose header, tail and digest are still missing: the header holds the length. */
export interface OpenLayer {
  path: string;
  dataBytes: number;
}

export type WorkerResult =
  | {
      kind: 'packed';
      lane: number;
      layers: OpenLayer[];
      /** Chunk records of all pieces in order; their layer field counts `layers`. */
      records: Uint8Array<ArrayBuffer>;
      /** For each piece: how many records it has. */
      counts: Uint32Array<ArrayBuffer>;
    }
  | { kind: 'finished'; path: string; digest: string; size: number }
  | { kind: 'failed'; message: string; code: string | undefined; syscall: string | undefined }
  | { kind: 'canceled' };

/** Shared words: whether to stop, and bytes done so far in the phase. */
export class SharedState {
  readonly buffer: SharedArrayBuffer;
  readonly #flag: Int32Array;
  readonly #done: BigInt64Array;

  constructor(buffer = new SharedArrayBuffer(16)) {
    this.buffer = buffer;
    this.#flag = new Int32Array(buffer, 0, 1);
    this.#done = new BigInt64Array(buffer, 8, 1);
  }

  stop(): void {
    Atomics.store(this.#flag, 0, 1);
  }

  get stopped(): boolean {
    return Atomics.load(this.#flag, 0) !== 0;
  }

  add(bytes: number): void {
    Atomics.add(this.#done, 0, BigInt(bytes));
  }

  get done(): number {
    return Number(Atomics.load(this.#done, 0));
  }

  reset(): void {
    Atomics.store(this.#done, 0, 0n);
  }
}
