/**
 * Streams of one process. runc gets anonymous pipes, because CRIU can restore those; native threads move the bytes
 * between pipes and the client's fifos, so none passes through JavaScript.
 */
import { closeSync, constants, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Addon } from '../../native/index.ts';
import type { RuncStdio } from '../task/start-plan.ts';
import { type StdioPaths, type StreamTarget, stdioTargets } from './target.ts';

export type StdioCalls = Pick<Addon, 'pipe' | 'fchown' | 'relayStart' | 'relayStop'>;

export interface StdioOwner {
  uid: number;
  gid: number;
}

// Close-on-exec is set by libuv on everything it opens.
const { O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK, O_APPEND, O_CREAT } = constants;

/** Descriptors close exactly once, whatever fails. */
class Descriptors {
  readonly #open = new Set<number>();

  add(fd: number): number {
    this.#open.add(fd);
    return fd;
  }

  /** The descriptor now belongs to somebody else. */
  release(fd: number): number {
    this.#open.delete(fd);
    return fd;
  }

  close(fd: number): void {
    if (this.#open.delete(fd)) closeSync(fd);
  }

  closeAll(): void {
    for (const fd of [...this.#open]) this.close(fd);
  }
}

export class ProcessIo {
  readonly #calls: StdioCalls;
  readonly #fds = new Descriptors();
  readonly #relays: { id: number; output: boolean; done: Promise<void> }[] = [];
  readonly #onError: (error: unknown) => void;
  #child: [number | 'ignore', number | 'ignore', number | 'ignore'] = ['ignore', 'ignore', 'ignore'];
  #pending: { from: number; to: number; output: boolean }[] = [];
  #stdinWriter: number | undefined;

  /**
   * Opens the client's ends and makes the pipes. Nothing is left open when this throws: InvalidArgument for a scheme
   * nobody knows, ENOENT for a fifo that is not there.
   */
  constructor(
    paths: StdioPaths,
    owner: StdioOwner,
    calls: StdioCalls,
    onError: (error: unknown) => void = () => {},
  ) {
    this.#calls = calls;
    this.#onError = onError;
    const targets = stdioTargets(paths);
    try {
      this.#child = [
        this.#input(targets.stdin, owner),
        this.#output(targets.stdout, owner),
        this.#output(targets.stderr, owner),
      ];
    } catch (error) {
      this.#fds.closeAll();
      throw error;
    }
  }

  /** What runc inherits. */
  get childStdio(): RuncStdio {
    return this.#child;
  }

  /** To call when runc has (or has failed to) inherit its ends: closes ours and begins to move bytes. */
  started(): void {
    for (const end of this.#child) if (end !== 'ignore') this.#fds.close(end);
    const pending = this.#pending;
    this.#pending = [];
    for (const { from, to, output } of pending) {
      let id: number | undefined;
      const done = new Promise<void>((resolve) => {
        id = this.#calls.relayStart(from, to, (error) => {
          // EPIPE: the process closed its stdin; everything else is worth a line.
          if (error && (error as NodeJS.ErrnoException).code !== 'EPIPE') this.#onError(error);
          resolve();
        });
      });
      this.#fds.release(from);
      this.#fds.release(to);
      if (id !== undefined) this.#relays.push({ id, output, done });
    }
  }

  /** End of the client's input: the process sees it once the client closed its end too. */
  closeStdin(): void {
    if (this.#stdinWriter === undefined) return;
    this.#fds.close(this.#stdinWriter);
    this.#stdinWriter = undefined;
  }

  /**
   * After the process exited: waits until all it wrote is with the client, at most `limitMs` (something else may hold the
   * pipes open), then closes everything. Idempotent.
   */
  async finish(limitMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, limitMs);
    });
    const outputs = this.#relays.filter((relay) => relay.output).map((relay) => relay.done);
    await Promise.race([Promise.all(outputs), expired]);
    clearTimeout(timer);
    await this.close();
  }

  /** Closes everything now; what is already in the pipes is still moved as far as the client's end takes it. */
  async close(): Promise<void> {
    this.closeStdin();
    for (const relay of this.#relays) this.#calls.relayStop(relay.id);
    await Promise.all(this.#relays.map((relay) => relay.done));
    this.#relays.length = 0;
    this.#pending = [];
    this.#fds.closeAll();
  }

  #pipe(owner: StdioOwner): { read: number; write: number } {
    const [readEnd, writeEnd] = this.#calls.pipe();
    const read = this.#fds.add(readEnd);
    const write = this.#fds.add(writeEnd);
    if (owner.uid !== 0 || owner.gid !== 0) {
      this.#calls.fchown(read, owner.uid, owner.gid);
      this.#calls.fchown(write, owner.uid, owner.gid);
    }
    return { read, write };
  }

  #input(target: StreamTarget, owner: StdioOwner): number | 'ignore' {
    if (target.kind === 'none') return 'ignore';
    // A reader first: opening a fifo for writing without blocking fails while nobody reads. The writer of our own keeps
    // the fifo from ending before CloseIO says so.
    const from = this.#fds.add(openSync(target.path, O_RDONLY | O_NONBLOCK));
    this.#stdinWriter = this.#fds.add(openSync(target.path, O_WRONLY | O_NONBLOCK));
    const pipe = this.#pipe(owner);
    this.#pending.push({ from, to: pipe.write, output: false });
    return pipe.read;
  }

  #output(target: StreamTarget, owner: StdioOwner): number | 'ignore' {
    if (target.kind === 'none') return 'ignore';
    const to = this.#fds.add(openOutput(target));
    const pipe = this.#pipe(owner);
    this.#pending.push({ from: pipe.read, to, output: true });
    return pipe.write;
  }
}

function openOutput(target: Exclude<StreamTarget, { kind: 'none' }>): number {
  switch (target.kind) {
    case 'fifo':
      // Reading and writing: a client that goes away is no EPIPE, and a later one finds what was written meanwhile.
      return openSync(target.path, O_RDWR | O_NONBLOCK);
    case 'file':
      mkdirSync(dirname(target.path), { recursive: true, mode: 0o755 });
      return openSync(target.path, O_WRONLY | O_APPEND | O_CREAT, 0o644);
  }
}
