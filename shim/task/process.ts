/** One process of a container, its init or an exec: a state machine and the promise of its exit. */
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { Exit } from '../process/exits.ts';
import type { ProcessIo, StdioPaths } from '../stdio/index.ts';

export type ProcessState =
  | { kind: 'created' }
  /** Start has been asked for and is not answered yet. */
  | { kind: 'starting' }
  | { kind: 'running' }
  | { kind: 'paused' }
  | { kind: 'stopped'; exit: Exit }
  | { kind: 'deleted' };

export class TaskProcess {
  /** The container's id for its init, the exec's id for an exec. */
  readonly id: string;
  readonly stdio: StdioPaths;
  state: ProcessState = { kind: 'created' };
  /** 0 until it is known. */
  pid = 0;
  #io: ProcessIo | undefined;
  #stdinClosed = false;
  readonly #exited = Promise.withResolvers<Exit>();
  /** Exits are reported only when this settles, so that the start event is queued first. */
  #gate: Promise<void> = Promise.resolve();

  constructor(id: string, stdio: StdioPaths) {
    this.id = id;
    this.stdio = stdio;
  }

  get io(): ProcessIo | undefined {
    return this.#io;
  }

  /** What was asked of the streams before there were any is done now. */
  set io(io: ProcessIo | undefined) {
    this.#io = io;
    if (this.#stdinClosed) io?.closeStdin();
  }

  closeStdin(): void {
    this.#stdinClosed = true;
    this.#io?.closeStdin();
  }

  /** In characters. Without a terminal, or before it is there, nothing happens: as with containerd's own shim. */
  resize(columns: number, rows: number): void {
    if (this.state.kind === 'stopped') throw new ShimError(Code.unknown, 'cannot resize a stopped container');
    this.#io?.resize(columns, rows);
  }

  get exited(): Promise<Exit> {
    return this.#exited.promise;
  }

  get alive(): boolean {
    return this.state.kind === 'starting' || this.state.kind === 'running' || this.state.kind === 'paused';
  }

  /** Runs the work of Start; an exit that comes meanwhile is reported after it. */
  async gated<Result>(work: () => Promise<Result>): Promise<Result> {
    const gate = Promise.withResolvers<void>();
    this.#gate = gate.promise;
    try {
      return await work();
    } finally {
      gate.resolve();
    }
  }

  /** Waits for the gate, however often it was closed anew. */
  async passGate(): Promise<void> {
    for (let gate: Promise<void> | undefined; gate !== this.#gate; ) {
      gate = this.#gate;
      await gate;
    }
  }

  stopped(exit: Exit): void {
    if (this.state.kind === 'stopped' || this.state.kind === 'deleted') return;
    this.state = { kind: 'stopped', exit };
    this.#io?.exited();
    this.#exited.resolve(exit);
  }

  /** Throws unless the process may be deleted now. The text is containerd's. */
  checkDeletable(): void {
    switch (this.state.kind) {
      case 'created':
      case 'stopped':
        return;
      case 'starting':
      case 'running':
        throw new ShimError(Code.unknown, 'cannot delete a running process');
      case 'paused':
        throw new ShimError(Code.unknown, 'cannot delete a paused process');
      case 'deleted':
        throw new ShimError(Code.notFound, 'cannot delete a deleted process');
    }
  }
}
