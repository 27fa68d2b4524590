/** Takes the chunked transfer coding off a body. Source: RFC 9112 §7.1. Pure. */
import { BadHead } from './http-head.ts';

/** Extensions of a chunk and trailers mean nothing here; they are read over. */
const MAX_LINE_BYTES = 16 * 1024;
const LINE_FEED = 10;

export class ChunkedDecoder {
  #state: 'size' | 'data' | 'data end' | 'trailer' | 'done' = 'size';
  #line = '';
  #left = 0;

  /** The last chunk and its trailer have come. */
  get isDone(): boolean {
    return this.#state === 'done';
  }

  /** The bytes of the body in the next bytes of the stream, as views. Throws BadHead for what is not coded so. */
  *decode(bytes: Buffer): Generator<Buffer> {
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === 'done') throw new BadHead('something follows the last chunk');
      if (this.#state === 'data') {
        const data = bytes.subarray(at, at + this.#left);
        at += data.length;
        this.#left -= data.length;
        if (this.#left === 0) this.#state = 'data end';
        yield data;
        continue;
      }
      const end = bytes.indexOf(LINE_FEED, at);
      this.#line += bytes.toString('latin1', at, end < 0 ? bytes.length : end);
      if (this.#line.length > MAX_LINE_BYTES) throw new BadHead('a line between chunks does not end');
      if (end < 0) return;
      at = end + 1;
      const line = this.#line.replace(/\r$/, '');
      this.#line = '';
      this.#endLine(line);
    }
  }

  #endLine(line: string): void {
    switch (this.#state) {
      case 'size': {
        const [, digits] = /^([0-9a-fA-F]{1,12})[ \t]*(?:;.*)?$/.exec(line) ?? [];
        if (digits === undefined) throw new BadHead('a chunk has no size');
        this.#left = Number.parseInt(digits, 16);
        this.#state = this.#left === 0 ? 'trailer' : 'data';
        return;
      }
      case 'data end':
        if (line !== '') throw new BadHead('a chunk is longer than it says');
        this.#state = 'size';
        return;
      case 'trailer':
        if (line === '') this.#state = 'done';
        return;
      case 'data':
      case 'done':
        return;
      default:
        this.#state satisfies never;
    }
  }
}
