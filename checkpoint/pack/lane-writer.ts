/** Writes the data layers of one lane. Synchronous: runs in a worker thread of its own. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { CHUNK_RECORD_BYTES, type Chunk, writeChunkRecord } from '../chunk-table.ts';
import { DATA_START } from '../layer-layout.ts';
import type { OpenLayer } from './protocol.ts';

function openLayerName(lane: number, n: number): string {
  return `lane-${lane}-${n}.tmp`;
}

/** Whether a file of the scratch directory is a layer that was not finished. */
export function isOpenLayerName(name: string): boolean {
  return /^lane-\d+-\d+\.tmp$/.test(name);
}

export class LaneWriter {
  readonly layers: OpenLayer[] = [];
  readonly #scratchDir: string;
  readonly #lane: number;
  readonly #layerBytes: number;
  #fd: number | undefined;
  #records = new Uint8Array(1024 * CHUNK_RECORD_BYTES);
  #count = 0;

  constructor(scratchDir: string, lane: number, layerBytes: number) {
    this.#scratchDir = scratchDir;
    this.#lane = lane;
    this.#layerBytes = layerBytes;
  }

  /** Number of records so far. */
  get count(): number {
    return this.#count;
  }

  /** Appends stored bytes and their record; begins a new layer where they would not fit. */
  append(stored: Buffer, chunk: Omit<Chunk, 'layer' | 'layerOffset' | 'storedLength'>): void {
    let layer = this.layers.at(-1);
    if (!layer || layer.dataBytes + stored.length > this.#layerBytes) layer = this.#begin();
    writeAll(this.#fd ?? -1, stored, DATA_START + layer.dataBytes);
    if (this.#count * CHUNK_RECORD_BYTES === this.#records.length) {
      const larger = new Uint8Array(this.#records.length * 2);
      larger.set(this.#records);
      this.#records = larger;
    }
    writeChunkRecord(this.#records, this.#count++, {
      ...chunk,
      layer: this.layers.length - 1,
      layerOffset: BigInt(DATA_START + layer.dataBytes),
      storedLength: stored.length,
    });
    layer.dataBytes += stored.length;
  }

  /** A lane always has one layer at least, so that a checkpoint has. */
  ensureLayer(): void {
    if (this.layers.length === 0) this.#begin();
  }

  records(): Uint8Array<ArrayBuffer> {
    return this.#records.slice(0, this.#count * CHUNK_RECORD_BYTES);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #begin(): OpenLayer {
    this.close();
    const path = join(this.#scratchDir, openLayerName(this.#lane, this.layers.length));
    this.#fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    const layer = { path, dataBytes: 0 };
    this.layers.push(layer);
    return layer;
  }
}

/** write(2) may take less than it was given, for example just before a disk is full. */
export function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}
