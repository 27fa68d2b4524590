/** The client's ends of a process's streams, as containerd's clients make them: fifos, opened without waiting. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { until } from '../../lib/index.ts';
import type { Stdio } from './task-client.ts';

const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants;

/** Collects what a fifo carries. */
export class Reader {
  readonly #chunks: Buffer[] = [];
  readonly #socket: Socket;
  ended = false;

  constructor(path: string) {
    // With O_NONBLOCK this does not wait for a writer, and no end is seen before there was one.
    this.#socket = new Socket({ fd: openSync(path, O_RDONLY | O_NONBLOCK), readable: true, writable: false });
    this.#socket.on('data', (chunk: Buffer) => this.#chunks.push(chunk));
    this.#socket.once('end', () => {
      this.ended = true;
    });
    this.#socket.on('error', () => {});
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }

  get length(): number {
    return this.#chunks.reduce((sum, { length }) => sum + length, 0);
  }

  /** Everything until the last writer closed. */
  async all(ms = 20_000): Promise<string> {
    await until('the end of a stream', () => this.ended, ms);
    return this.text;
  }

  /** Until what came so far matches. */
  async until(pattern: RegExp, ms = 10_000): Promise<string> {
    await until(`${pattern} in "${this.text.slice(-200)}"`, () => pattern.test(this.text), ms);
    return this.text;
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Fifos of one process. The input is opened only when the shim has opened its end, as a client's blocking open does. */
export class Streams {
  readonly paths: Stdio;
  readonly #readers: Reader[] = [];
  readonly #held: number[] = [];
  #input: number | undefined;

  constructor(
    directory: string,
    id: string,
    names: readonly (keyof Stdio)[] = ['stdin', 'stdout', 'stderr'],
  ) {
    this.paths = {};
    for (const name of names) {
      if (name === 'terminal') continue;
      const path = join(directory, `${id}-${name}`);
      execFileSync('mkfifo', ['-m', '0600', path]);
      this.paths[name] = path;
    }
  }

  read(name: 'stdout' | 'stderr'): Reader {
    const reader = new Reader(this.paths[name] ?? '');
    this.#readers.push(reader);
    return reader;
  }

  /** Opens an output without reading, until `close`. */
  hold(name: 'stdout' | 'stderr'): void {
    this.#held.push(openSync(this.paths[name] ?? '', O_RDONLY | O_NONBLOCK));
  }

  async write(text: string): Promise<void> {
    this.#input ??= await until('a reader of the input', () =>
      openSync(this.paths.stdin ?? '', O_WRONLY | O_NONBLOCK),
    );
    writeSync(this.#input, text);
  }

  closeInput(): void {
    if (this.#input !== undefined) closeSync(this.#input);
    this.#input = undefined;
  }

  close(): void {
    this.closeInput();
    for (const fd of this.#held.splice(0)) closeSync(fd);
    for (const reader of this.#readers) reader.close();
  }
}
