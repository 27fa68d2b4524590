/**
 * ttrpc frames: a ten-byte header and data. All numbers are big-endian: u32 data length, u32 stream id, u8 type,
 * u8 flags. Source: PROTOCOL.md of github.com/containerd/ttrpc.
 */

export const HEADER_LENGTH = 10;
/** Most bytes of data in one frame. */
export const MAX_DATA_LENGTH = 4 << 20;

export const FrameType = { request: 1, response: 2, data: 3 } as const;
export const Flag = { remoteClosed: 1, remoteOpen: 2, noData: 4 } as const;

export interface FrameHeader {
  stream: number;
  /** A FrameType, or a type this module does not know: readers must ignore those. */
  type: number;
  flags: number;
}

export type DecodedFrame =
  | (FrameHeader & { kind: 'frame'; data: Buffer })
  /** The data was longer than allowed and has been or will be skipped; the stream of frames goes on after it. */
  | (FrameHeader & { kind: 'oversized'; length: number });

export function encodeFrame(stream: number, type: number, flags: number, data: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_LENGTH + data.length);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(stream, 4);
  frame.writeUInt8(type, 8);
  frame.writeUInt8(flags, 9);
  frame.set(data, HEADER_LENGTH);
  return frame;
}

/** Takes bytes in pieces of any size. Memory held is bounded by one frame and the last piece. */
export class FrameDecoder {
  #pieces: Buffer[] = [];
  #buffered = 0;
  #header: (FrameHeader & { length: number }) | undefined;
  #skip = 0;
  readonly #maxData: number;

  constructor(maxData = MAX_DATA_LENGTH) {
    this.#maxData = maxData;
  }

  /** True between frames, when an end of the byte stream is no truncation. */
  get idle(): boolean {
    return this.#buffered === 0 && this.#skip === 0 && this.#header === undefined;
  }

  push(piece: Uint8Array): DecodedFrame[] {
    let rest = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    const frames: DecodedFrame[] = [];
    for (;;) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, rest.length);
        this.#skip -= skipped;
        rest = rest.subarray(skipped);
        if (this.#skip > 0) return frames;
      }
      this.#keep(rest);
      rest = Buffer.alloc(0);
      if (!this.#header) {
        const bytes = this.#take(HEADER_LENGTH);
        if (!bytes) return frames;
        const header = {
          length: bytes.readUInt32BE(0),
          stream: bytes.readUInt32BE(4),
          type: bytes.readUInt8(8),
          flags: bytes.readUInt8(9),
        };
        if (header.length > this.#maxData) {
          frames.push({ kind: 'oversized', ...header });
          this.#skip = header.length;
          rest = this.#takeAll();
          continue;
        }
        this.#header = header;
      }
      const { stream, type, flags, length } = this.#header;
      const data = this.#take(length);
      if (!data) return frames;
      this.#header = undefined;
      frames.push({ kind: 'frame', stream, type, flags, data });
    }
  }

  #keep(piece: Buffer): void {
    if (piece.length === 0) return;
    this.#pieces.push(piece);
    this.#buffered += piece.length;
  }

  #takeAll(): Buffer {
    return this.#take(this.#buffered) ?? Buffer.alloc(0);
  }

  /** The first `length` buffered bytes, joined at most once; undefined if there are fewer. */
  #take(length: number): Buffer | undefined {
    if (this.#buffered < length) return undefined;
    if (length === 0) return Buffer.alloc(0);
    const [first] = this.#pieces;
    const joined = first && first.length >= length ? first : Buffer.concat(this.#pieces, this.#buffered);
    if (joined === first) this.#pieces.shift();
    else this.#pieces = [];
    if (joined.length > length) this.#pieces.unshift(joined.subarray(length));
    this.#buffered -= length;
    return joined.subarray(0, length);
  }
}
