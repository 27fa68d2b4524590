/**
 * Two buffers in which a connection's bytes land, so that the kernel (or TLS) writes them where they are read from and nothing
 * is allocated for a piece. Pure: knows neither sockets nor time.
 */

interface Run {
  buffer: 0 | 1;
  start: number;
  end: number;
}

/** TLS hands over records of 16 KiB; a smaller rest of a buffer would cut each in two. */
const LEAST_SPACE = 16 * 1024;

export class Landing {
  readonly #buffers: readonly [Buffer, Buffer];
  #into: 0 | 1 = 0;
  #at = 0;
  readonly #unread: Run[] = [];
  /** What `take` gave last: in use until it is called again. */
  #lent: Run | undefined;
  #blocked = false;

  /** `bytes`: of each of the two. */
  constructor(bytes: number) {
    this.#buffers = [Buffer.allocUnsafeSlow(bytes), Buffer.allocUnsafeSlow(bytes)];
  }

  /** Where the next bytes go; never empty. While `blocked`, bytes there are still read. */
  get space(): Buffer {
    return this.#buffers[this.#into].subarray(this.#at);
  }

  /** No bytes may land until `take` has made room. */
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
    if (this.#buffers[this.#into].length - this.#at >= LEAST_SPACE) return;
    this.#into = this.#into === 0 ? 1 : 0;
    this.#at = 0;
    this.#blocked = !this.#isFree(this.#into);
  }

  /** The next bytes in order, as many as lie together. Valid until the next call. Undefined if there are none yet. */
  take(): Buffer | undefined {
    this.#lent = this.#unread.shift();
    if (this.#blocked) this.#blocked = !this.#isFree(this.#into);
    if (!this.#lent) return undefined;
    const { buffer, start, end } = this.#lent;
    return this.#buffers[buffer].subarray(start, end);
  }

  #isFree(buffer: 0 | 1): boolean {
    return this.#lent?.buffer !== buffer && this.#unread.every((run) => run.buffer !== buffer);
  }
}
