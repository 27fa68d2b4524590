import { type FileHandle, open } from 'node:fs/promises';
import { Code, describeError } from '../../proto/status.ts';

/** A longer line is cut here. */
const MAX_LINE = 64 << 10;
const PIECE_BYTES = 256 << 10;
const TAIL_LINES = 5;

/** Follows what a container writes. Each line is looked at once. */
export class LogWatch {
  readonly #path: string;
  #offset = 0;
  #rest = '';
  #last: readonly string[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  /** Whether a line since the last call matches. Reads on to the end in any case. */
  async matches(pattern: RegExp): Promise<boolean> {
    let found = false;
    for await (const lines of this.#lines()) found ||= lines.some((line) => pattern.test(line));
    return found;
  }

  /** The last lines, for a message. */
  async tail(): Promise<string[]> {
    for await (const _ of this.#lines());
    return this.#rest === '' ? [...this.#last] : [...this.#last, this.#rest].slice(-TAIL_LINES);
  }

  async *#lines(): AsyncGenerator<string[]> {
    let file: FileHandle;
    try {
      file = await open(this.#path, 'r');
    } catch (error) {
      if (describeError(error).code === Code.notFound) return;
      throw error;
    }
    try {
      const piece = Buffer.alloc(PIECE_BYTES);
      for (;;) {
        const { bytesRead } = await file.read(piece, 0, piece.length, this.#offset);
        if (bytesRead === 0) return;
        this.#offset += bytesRead;
        const lines = (this.#rest + piece.toString('latin1', 0, bytesRead)).split('\n');
        this.#rest = (lines.pop() ?? '').slice(0, MAX_LINE);
        const texts = lines.map((line) => Buffer.from(line, 'latin1').toString('utf8'));
        this.#last = [...this.#last, ...texts.slice(-TAIL_LINES)].slice(-TAIL_LINES);
        yield texts;
      }
    } finally {
      await file.close();
    }
  }
}
