/**
 * A log driver: a program of the administrator's that gets a process's output, as binary:// asks for. It reads the very
 * pipes that the process writes to. Loaded only where one is asked for.
 */
import { openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Addon } from '../../native/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { ChildResult, Spawner } from '../process/spawn.ts';
import { Descriptors } from './descriptors.ts';
import type { PipeCalls } from './process-io.ts';
import { Relays, within } from './relays.ts';
import type { DriverTarget } from './target.ts';

export type DriverCalls = PipeCalls & Pick<Addon, 'pidfdOpen' | 'pidfdSendSignal'>;

export interface DriverDeps {
  calls: DriverCalls;
  spawner: Spawner;
  warn: (reason: string) => void;
  limits?: DriverLimits;
}

export interface DriverIdentity {
  /** Of the process: the exec's id for an exec. */
  id: string;
  namespace: string;
}

/** Milliseconds. */
export interface DriverLimits {
  /** How long the driver may take to say that it is ready. */
  ready: number;
  /** From the end of the output to SIGTERM: a driver that reads to the end needs none. */
  end: number;
  /** From SIGTERM to SIGKILL. */
  term: number;
}

/** The last is containerd's own shim's; the others have no limit there. */
const LIMITS: DriverLimits = { ready: 30_000, end: 3_000, term: 12_000 };
const SIGTERM = 15;
const SIGKILL = 9;

export class LogDriver {
  readonly #target: DriverTarget;
  readonly #deps: DriverDeps;
  readonly #limits: DriverLimits;
  readonly #fds = new Descriptors();
  readonly #discards: Relays;
  readonly #readers: number[] = [];
  readonly #writers: [number, number];
  /** Settles when the program ended, or could not be started. */
  readonly #ended: Promise<ChildResult>;
  #pidfd: number | undefined;
  #stopping: Promise<void> | undefined;

  /** Starts the program and waits until it is ready. Nothing of it is left when this rejects. */
  static async start(target: DriverTarget, identity: DriverIdentity, deps: DriverDeps): Promise<LogDriver> {
    const [ready, readyWriter] = deps.calls.pipe();
    const answer = new Answer(ready);
    let driver: LogDriver | undefined;
    try {
      driver = new LogDriver(target, identity, deps, readyWriter);
      await driver.#untilReady(answer);
      return driver;
    } catch (error) {
      await driver?.stop();
      throw error;
    } finally {
      answer.close();
    }
  }

  private constructor(target: DriverTarget, identity: DriverIdentity, deps: DriverDeps, readyWriter: number) {
    this.#target = target;
    this.#deps = deps;
    this.#limits = deps.limits ?? LIMITS;
    this.#discards = new Relays(deps.calls, this.#fds, (error) => deps.warn(describeError(error).message));
    this.#fds.add(readyWriter);
    try {
      this.#writers = [this.#pipe(), this.#pipe()];
    } catch (error) {
      this.#fds.closeAll();
      throw error;
    }
    this.#ended = deps.spawner.run(target.path, target.args, {
      env: { CONTAINER_ID: identity.id, CONTAINER_NAMESPACE: identity.namespace },
      // It lives as long as the process that it logs.
      deadlineMs: Number.POSITIVE_INFINITY,
      extraFds: [...this.#readers, readyWriter],
      onSpawn: (pid) => {
        // Now: later its pid could be somebody else's.
        this.#pidfd = this.#fds.add(deps.calls.pidfdOpen(pid));
        this.#fds.close(readyWriter);
      },
    });
    this.#ended.then(
      (result) => this.#lost(`log driver ${target.path} ended with ${describeEnd(result)}`),
      () => this.#fds.close(readyWriter),
    );
  }

  /** Gives the caller the descriptor that the process's stdout goes to. */
  takeStdout(): number {
    return this.#fds.release(this.#writers[0]);
  }

  /** For the process to inherit. */
  get writers(): readonly [number, number] {
    return this.#writers;
  }

  /** To call when the process has inherited its ends, so that the driver sees the end when the process does. */
  closeWriters(): void {
    for (const fd of this.#writers) this.#fds.close(fd);
  }

  /** The output has ended: waits for the driver to end too, and ends it if it does not. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#end();
    return this.#stopping;
  }

  async #end(): Promise<void> {
    const { end, term } = this.#limits;
    this.closeWriters();
    if (!(await within(this.#ended, end))) this.#signal(SIGTERM);
    if (!(await within(this.#ended, term))) {
      this.#deps.warn(`log driver ${this.#target.path} did not end in time; killed`);
      this.#signal(SIGKILL);
      await within(this.#ended, term);
    }
    await this.#discards.stop();
    this.#fds.closeAll();
  }

  #signal(signal: number): void {
    try {
      if (this.#pidfd !== undefined) this.#deps.calls.pidfdSendSignal(this.#pidfd, signal);
    } catch (error) {
      // ESRCH: it has just ended.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') this.#deps.warn(describeError(error).message);
    }
  }

  /**
   * The driver ended before the output did. Here the read ends are still open, so the process gets no SIGPIPE (with
   * containerd's own shim it does); what it writes from now on goes nowhere, or it would block as soon as a pipe is full.
   */
  #lost(reason: string): void {
    if (this.#stopping) return;
    this.#deps.warn(`${reason}; what the process writes from now on is lost`);
    for (const reader of this.#readers.splice(0))
      void this.#discards.start(reader, this.#fds.add(openSync('/dev/null', 'w')), true);
  }

  async #untilReady(answer: Answer): Promise<void> {
    const { path, needsReady } = this.#target;
    const failure = this.#ended.then(
      () => new Promise<never>(() => {}),
      (cause: unknown) => {
        const { message } = describeError(cause);
        throw new ShimError(Code.notFound, `failed to start binary process: ${message}`, { cause });
      },
    );
    const said = await Promise.race([answer.within(this.#limits.ready), failure]);
    if (said === 'nothing')
      throw new ShimError(
        Code.deadlineExceeded,
        `log driver ${path} was not ready within ${this.#limits.ready / 1000} s`,
      );
    if (said === 'end' && needsReady)
      throw new ShimError(Code.unknown, `log driver ${path} did not say that it is ready`);
  }

  #pipe(): number {
    const [reader, writer] = this.#deps.calls.pipe();
    this.#readers.push(this.#fds.add(reader));
    return this.#fds.add(writer);
  }
}

/** The driver's end of the ready pipe: one byte, or its end. */
class Answer {
  readonly #socket: Socket;

  constructor(fd: number) {
    this.#socket = new Socket({ fd, readable: true, writable: false });
  }

  within(limitMs: number): Promise<'byte' | 'end' | 'nothing'> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, limitMs, 'nothing' as const);
      const said = (what: 'byte' | 'end') => {
        clearTimeout(timer);
        resolve(what);
      };
      this.#socket.once('data', () => said('byte'));
      for (const event of ['end', 'error', 'close'] as const) this.#socket.once(event, () => said('end'));
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

function describeEnd({ code, signal }: ChildResult): string {
  return signal !== undefined ? `signal ${signal}` : `exit status ${code}`;
}
