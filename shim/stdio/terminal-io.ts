/**
 * Streams of a process with a terminal. runc makes the pty inside the container and sends its master through a socket;
 * native threads move the bytes between it and the client's fifos. Loaded only where a terminal is asked for.
 */
import { closeSync, constants, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { RuncStdio } from '../task/start-plan.ts';
import { openInput, openOutput } from './client-end.ts';
import { Descriptors } from './descriptors.ts';
import type { PipeCalls, ProcessIo, TerminalCalls } from './process-io.ts';
import { Relays, within } from './relays.ts';
import type { ClientTarget, StreamTarget } from './target.ts';

/** runc sends the terminal before it reports success, so this passes only if it never does. */
const CONSOLE_MS = 30_000;

export interface TerminalTargets {
  stdin: StreamTarget;
  stdout: ClientTarget | { kind: 'descriptor'; fd: number };
}

let sockets = 0;

export class TerminalIo implements ProcessIo {
  readonly childStdio: RuncStdio = ['ignore', 'ignore', 'ignore'];
  readonly consoleSocket: string;
  readonly reusable = false;
  readonly #calls: PipeCalls & TerminalCalls;
  readonly #fds = new Descriptors();
  readonly #relays: Relays;
  readonly #socketFile: string;
  readonly #directory: number;
  readonly #receiving: { id: number; master: Promise<number> };
  readonly #output: number;
  #input: number | undefined;
  #stdinWriter: number | undefined;
  #console: number | undefined;
  #closed = false;

  /** Nothing is left open when this throws. A `descriptor` as output belongs to this object from then on. */
  constructor(
    targets: TerminalTargets,
    bundle: string,
    calls: PipeCalls & TerminalCalls,
    onError: (error: unknown) => void = () => {},
  ) {
    this.#calls = calls;
    this.#relays = new Relays(calls, this.#fds, onError);
    sockets += 1;
    const name = `console-${sockets}.sock`;
    this.#socketFile = join(bundle, name);
    try {
      const { stdin, stdout } = targets;
      this.#output = stdout.kind === 'descriptor' ? this.#fds.add(stdout.fd) : openOutput(stdout, this.#fds);
      if (stdin.kind !== 'none') {
        const { reader, writer } = openInput(stdin.path, this.#fds);
        this.#input = reader;
        this.#stdinWriter = writer;
      }
      // The bundle is root's alone and goes with the container, whatever happens to this process; but its path is often
      // longer than a socket's may be (108 bytes), hence the detour through a descriptor of the folder.
      this.#directory = this.#fds.add(openSync(bundle, constants.O_RDONLY | constants.O_DIRECTORY));
      this.consoleSocket = `/proc/${process.pid}/fd/${this.#directory}/${name}`;
      this.#receiving = this.#receive(this.#fds.add(calls.consoleListen(this.consoleSocket)));
    } catch (error) {
      this.#fds.closeAll();
      this.#removeSocket();
      throw error;
    }
  }

  async started(): Promise<void> {
    const master = await this.#master();
    this.#console = master;
    const output = this.#relays.start(this.#copy(master), this.#output, true);
    if (this.#input === undefined) return;
    const input = this.#relays.start(this.#input, this.#copy(master), false);
    this.#input = undefined;
    // As with containerd's own shim, the end of the input is a hang-up.
    void input
      .then(() => {
        this.#relays.drain();
        return output;
      })
      .then(() => this.#hangUp());
  }

  closeStdin(): void {
    if (this.#stdinWriter === undefined) return;
    this.#fds.close(this.#stdinWriter);
    this.#stdinWriter = undefined;
  }

  resize(columns: number, rows: number): void {
    // The kernel keeps 16 bits.
    if (this.#console !== undefined)
      this.#calls.setWindowSize(this.#console, columns & 0xffff, rows & 0xffff);
  }

  // A terminal has no end: what still has it open when its process is gone is not waited for.
  exited(): void {
    this.#relays.drain();
  }

  async finish(limitMs: number): Promise<void> {
    this.exited();
    await this.#relays.outputs(limitMs);
    await this.close();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#calls.consoleCancel(this.#receiving.id);
    this.closeStdin();
    await this.#relays.stop();
    this.#hangUp();
    this.#removeSocket();
    this.#fds.closeAll();
    await within(this.#receiving.master, CONSOLE_MS);
  }

  /** The one terminal that runc sends. */
  async #master(): Promise<number> {
    const { id, master } = this.#receiving;
    try {
      if (!(await within(master, CONSOLE_MS))) {
        this.#calls.consoleCancel(id);
        throw new ShimError(
          Code.deadlineExceeded,
          `failed to retrieve console master: none came within ${CONSOLE_MS / 1000} s`,
        );
      }
      const fd = await master.catch((cause: Error) => {
        throw new ShimError(Code.unknown, `failed to retrieve console master: ${cause.message}`, { cause });
      });
      if (!this.#closed) return fd;
      throw new ShimError(Code.canceled, 'failed to retrieve console master: the process is gone');
    } finally {
      this.#removeSocket();
      this.#fds.close(this.#directory);
    }
  }

  #receive(listener: number): { id: number; master: Promise<number> } {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const id = this.#calls.consoleReceive(listener, (error, master) => {
      if (error || master === undefined) return reject(error ?? new Error('no descriptor'));
      // Nobody waits for it any more.
      if (this.#closed) closeSync(master);
      else this.#fds.add(master);
      resolve(master);
    });
    this.#fds.release(listener);
    // Heard of by whoever awaits it, if anybody does.
    promise.catch(() => {});
    return { id, master: promise };
  }

  #copy(master: number): number {
    return this.#fds.add(this.#calls.duplicate(master));
  }

  #hangUp(): void {
    if (this.#console === undefined) return;
    this.#fds.close(this.#console);
    this.#console = undefined;
  }

  #removeSocket(): void {
    rmSync(this.#socketFile, { force: true });
  }
}
