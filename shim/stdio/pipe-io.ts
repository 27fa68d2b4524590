/**
 * Streams of a process without a terminal. runc gets anonymous pipes, because CRIU can restore those; native threads move
 * the bytes between pipes and the client's fifos, so none passes through JavaScript.
 */
import type { RuncStdio } from '../task/start-plan.ts';
import { openInput, openOutput } from './client-end.ts';
import { Descriptors } from './descriptors.ts';
import type { PipeCalls, ProcessIo, StdioOwner } from './process-io.ts';
import { Relays } from './relays.ts';
import type { StreamTarget } from './target.ts';

export interface PipeTargets {
  stdin: StreamTarget;
  stdout: StreamTarget;
  stderr: StreamTarget;
}

export class PipeIo implements ProcessIo {
  readonly childStdio: RuncStdio;
  readonly consoleSocket = undefined;
  readonly reusable = false;
  readonly #calls: PipeCalls;
  readonly #owner: StdioOwner;
  readonly #fds = new Descriptors();
  readonly #relays: Relays;
  #pending: { from: number; to: number; output: boolean }[] = [];
  #stdinWriter: number | undefined;

  /**
   * Opens the client's ends and makes the pipes. Nothing is left open when this throws: NotFound for a fifo that is not
   * there.
   */
  constructor(
    targets: PipeTargets,
    owner: StdioOwner,
    calls: PipeCalls,
    onError: (error: unknown) => void = () => {},
  ) {
    this.#calls = calls;
    this.#owner = owner;
    this.#relays = new Relays(calls, this.#fds, onError);
    try {
      this.childStdio = [
        this.#input(targets.stdin),
        this.#output(targets.stdout),
        this.#output(targets.stderr),
      ];
    } catch (error) {
      this.#fds.closeAll();
      throw error;
    }
  }

  async started(): Promise<void> {
    for (const end of this.childStdio) if (end !== 'ignore') this.#fds.close(end);
    const pending = this.#pending;
    this.#pending = [];
    for (const { from, to, output } of pending) void this.#relays.start(from, to, output);
  }

  closeStdin(): void {
    if (this.#stdinWriter === undefined) return;
    this.#fds.close(this.#stdinWriter);
    this.#stdinWriter = undefined;
  }

  resize(): void {}

  // Pipes end by themselves when their last writer goes.
  exited(): void {}

  async finish(limitMs: number): Promise<void> {
    await this.#relays.outputs(limitMs);
    await this.close();
  }

  async close(): Promise<void> {
    this.closeStdin();
    await this.#relays.stop();
    this.#pending = [];
    this.#fds.closeAll();
  }

  #pipe(): { read: number; write: number } {
    const { uid, gid } = this.#owner;
    const [readEnd, writeEnd] = this.#calls.pipe();
    const read = this.#fds.add(readEnd);
    const write = this.#fds.add(writeEnd);
    // Both ends are one inode.
    if (uid !== 0 || gid !== 0) this.#calls.fchown(write, uid, gid);
    return { read, write };
  }

  #input(target: StreamTarget): number | 'ignore' {
    if (target.kind === 'none') return 'ignore';
    const { reader, writer } = openInput(target.path, this.#fds);
    this.#stdinWriter = writer;
    const pipe = this.#pipe();
    this.#pending.push({ from: reader, to: pipe.write, output: false });
    return pipe.read;
  }

  #output(target: StreamTarget): number | 'ignore' {
    if (target.kind === 'none') return 'ignore';
    const to = openOutput(target, this.#fds);
    const pipe = this.#pipe();
    this.#pending.push({ from: pipe.read, to, output: true });
    return pipe.write;
  }
}
