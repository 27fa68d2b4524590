/** One call on a connection: what its client sent, and what goes back as far as the client wants it. */
import { FrameType, frame, headerFrames } from './frames.ts';
import type { Field } from './hpack.ts';

/** The connection, as its streams see it. */
export interface Outlet {
  /** Bytes of data that the client takes now, over all streams. */
  window: number;
  /** Longest payload of a frame that the client takes. */
  readonly maxFrame: number;
  /** More is kept for the client than the socket takes. */
  readonly full: boolean;
  write(frames: Buffer): void;
  /** Nothing more will be sent on it. */
  ended(stream: Stream): void;
}

const EMPTY = Buffer.alloc(0);

export class Stream {
  readonly id: number;
  readonly fields: readonly Field[];
  readonly #outlet: Outlet;
  #window: number;
  readonly #body: Buffer[] = [];
  #size = 0;
  #received = false;
  readonly #queue: Buffer[] = [];
  #trailers: Buffer | undefined;
  #headersSent = false;
  #closed = false;
  readonly #watchers = new Set<() => void>();

  /** `window`: bytes of data that the client takes at first. */
  constructor(id: number, fields: readonly Field[], window: number, outlet: Outlet) {
    this.id = id;
    this.fields = fields;
    this.#window = window;
    this.#outlet = outlet;
  }

  /** All was sent, or the client does not want it any more. */
  get closed(): boolean {
    return this.#closed;
  }

  get headersSent(): boolean {
    return this.#headersSent;
  }

  /** Everything written so far is with the kernel. */
  get ready(): boolean {
    return this.#queue.length === 0 && !this.#outlet.full;
  }

  /** The client has sent all. */
  get received(): boolean {
    return this.#received;
  }

  /** Calls `listener` whenever it may have become `ready` or `closed`, until the function is called that this answers. */
  watch(listener: () => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  headers(block: Buffer): void {
    if (this.#closed) return;
    this.#headersSent = true;
    this.#outlet.write(headerFrames(this.id, block, false, this.#outlet.maxFrame));
  }

  /** Behind the headers. */
  data(bytes: Buffer): void {
    if (this.#closed) return;
    this.#queue.push(bytes);
    this.pump();
  }

  /** Behind all data, or in place of the headers. */
  end(trailers: Buffer): void {
    if (this.#closed) return;
    this.#headersSent = true;
    this.#trailers = trailers;
    this.pump();
  }

  /** Sends what the windows allow. */
  pump(): void {
    const outlet = this.#outlet;
    for (let first = this.#queue[0]; first && !this.#closed; first = this.#queue[0]) {
      const size = Math.min(first.length, this.#window, outlet.window, outlet.maxFrame);
      if (size <= 0 && first.length > 0) return;
      this.#window -= size;
      outlet.window -= size;
      outlet.write(frame(FrameType.data, 0, this.id, first.subarray(0, size)));
      if (size === first.length) this.#queue.shift();
      else this.#queue[0] = first.subarray(size);
    }
    if (this.#trailers && !this.#closed) {
      outlet.write(headerFrames(this.id, this.#trailers, true, outlet.maxFrame));
      this.close();
      outlet.ended(this);
    } else {
      this.changed();
    }
  }

  /** The client takes more, or less; answers how much that is now. */
  widen(bytes: number): number {
    this.#window += bytes;
    return this.#window;
  }

  /** A part of the request. What is too much is counted, and not kept. */
  receive(part: Buffer, limit: number): void {
    this.#size += part.length;
    if (this.#size > limit) this.#body.length = 0;
    else this.#body.push(part);
  }

  /** The request, which is complete; undefined if it was too much. */
  take(limit: number): Buffer | undefined {
    this.#received = true;
    if (this.#size > limit) return undefined;
    const [first = EMPTY, ...more] = this.#body.splice(0);
    return more.length === 0 ? first : Buffer.concat([first, ...more]);
  }

  /** Nothing more goes out. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue.length = 0;
    this.changed();
  }

  changed(): void {
    for (const watcher of this.#watchers) watcher();
  }
}
