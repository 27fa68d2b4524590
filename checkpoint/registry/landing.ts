/**
 * A few buffers in which a connection's bytes land, so that the kernel (or TLS) writes them where they are read from and
 * nothing is allocated for a piece. Pure: knows neither sockets nor time.
 */

interface Run {
  buffer: number;
  start: number;
  end: number;
}

/** TLS hands over records of 16 KiB; a smaller rest of a buffer would cut each in two. */
const LEAST_SPACE = 16 * 1024;
/** Buffers with bytes that are still to be read, from which on no more shall come. */
const ENOUGH = 2;

export class Landing {
  readonly #bytes: number;
  readonly #buffers: Buffer[];
  #into = 0;
  #at = 0;
  readonly #unread: Run[] = [];
  /** What `take` gave last: in use until it is called again. */
  #lent: Run | undefined;
  #blocked = false;

  /** `bytes`: of each buffer. There are three as a rule: TLS hands on what it has, also after it was told to stop. */
  constructor(bytes: number) {
    this.#bytes = bytes;
    this.#buffers = [Buffer.allocUnsafeSlow(bytes)];
  }

  /** Where the next bytes go; never empty, and never where somebody still reads. */
  get space(): Buffer {
    return (this.#buffers[this.#into] as Buffer).subarray(this.#at);
  }

  /** No more shall come until `take` has made room. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** So many bytes are in `space`. */
  landed(bytes: number): void {
    const start = this.#at;
    this.#at += bytes;
    const last = this.#unread.at(-1);
    if (last?.buffer === this.#into && last.end === start) last.end = this.#at;
    else this.#unread.push({ buffer: this.#into, start, end: this.#at });
    if (this.#bytes - this.#at >= LEAST_SPACE) return;
    const inUse = this.#inUse();
    let next = this.#buffers.findIndex((_, buffer) => !inUse.has(buffer));
    if (next < 0) next = this.#buffers.push(Buffer.allocUnsafeSlow(this.#bytes)) - 1;
    this.#into = next;
    this.#at = 0;
    this.#blocked = inUse.size >= ENOUGH;
  }

  /** The next bytes in order, as many as lie together. Valid until the next call. Undefined if there are none yet. */
  take(): Buffer | undefined {
    this.#lent = this.#unread.shift();
    if (this.#blocked) this.#blocked = this.#inUse().size >= ENOUGH;
    if (!this.#lent) return undefined;
    const { buffer, start, end } = this.#lent;
    return this.#buffers[buffer]?.subarray(start, end);
  }

  #inUse(): Set<number> {
    return new Set([...(this.#lent ? [this.#lent] : []), ...this.#unread].map(({ buffer }) => buffer));
  }
}
