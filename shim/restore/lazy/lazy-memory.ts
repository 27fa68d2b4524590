/**
 * One restore whose memory arrives while its processes already run: the page server, its guard, and the conversation with
 * the daemon about chunks that are not here yet.
 */
import { closeSync, constants, openSync, unlinkSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CheckpointIndex } from '../../../checkpoint/index-format.ts';
import type { Addon } from '../../../native/index.ts';
import { allBits, bitsOf, clearBits } from '../../../native/page-server/bits.ts';
import type { PagedProcess, PageServer, PageServerEvent } from '../../../native/page-server/calls.ts';
import { Code, describeError } from '../../../proto/status.ts';
import type { Log } from '../../log.ts';
import type { Spawner } from '../../process/spawn.ts';
import type { RestoredMemory } from '../../task/start-plan.ts';
import type { Daemon, DaemonConnection } from '../daemon.ts';
import { RestoreError } from '../error.ts';
import type { MemoryPlan } from './memory-plan.ts';

export interface LazyMemoryDeps {
  calls: Pick<
    Addon,
    | 'consoleListen'
    | 'messageSockets'
    | 'pageServerStart'
    | 'pageServerGuard'
    | 'pageServerProcess'
    | 'pageServerPresent'
    | 'pageServerDrain'
    | 'pageServerFinish'
    | 'pageServerStats'
    | 'pidfdOpen'
  >;
  daemon: Pick<Daemon, 'connect'>;
  spawner: Spawner;
  /** The launcher, which is the guard too. */
  guardProgram: string;
  log: Log;
}

export interface LazyMemoryInput {
  /** The checkpoint's name on this node. */
  id: string;
  imagesDir: string;
  index: CheckpointIndex;
  plan: MemoryPlan;
  /** Makes the daemon know the checkpoint again. */
  relocate(): Promise<unknown>;
  /** Of the container: what the guard ends if this process ends. */
  cgroups: readonly string[];
  /**
   * Is told in the end which chunks were touched, in the order of the first touch. Then nothing is copied before it is
   * touched, and the memory is complete only when the processes are gone.
   */
  record?: (touched: Iterable<number>) => Promise<void>;
}

/** Relative to CRIU's work directory. Source: CRIU's uffd.c. */
const SOCKET = 'lazy-pages.socket';
const GUARD_READY_MS = 10_000;
/** Longest time that CRIU and runc get for their last steps after the memory was handed over. */
const SETTLE_MS = 200;
const WANT_MS = 60_000;
/** Chunks that are asked for at a time where none comes. */
const MOST_ASKED = 64;
/** What no waiting changes. */
const FINAL: ReadonlySet<Code> = new Set([
  Code.dataLoss,
  Code.invalidArgument,
  Code.resourceExhausted,
  Code.failedPrecondition,
]);
/** A daemon that was started anew may know an unpacked checkpoint only by its snapshots; one that is gone, not at all. */
const MOST_LOCATES = 10;
const FIRST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 2_000;
/** Guards that are followed by another at once; where more end something is wrong with the node, which gets time. */
const QUICK_GUARDS = 20;
const GUARD_WAIT_MS = 1_000;

export class LazyMemory implements RestoredMemory {
  readonly #input: LazyMemoryInput;
  readonly #deps: LazyMemoryDeps;
  readonly #ended = Promise.withResolvers<void>();
  readonly #complete = Promise.withResolvers<void>();
  readonly #guarded = Promise.withResolvers<void>();
  readonly #wanted = new Set<number>();
  readonly #began = performance.now();
  #server: PageServer | undefined;
  #over = false;
  #failure: RestoreError | undefined;
  #onFailed: ((error: RestoreError) => void) | undefined;
  #guards = 0;
  #connecting: Promise<DaemonConnection> | undefined;
  #connection: DaemonConnection | undefined;

  private constructor(input: LazyMemoryInput, deps: LazyMemoryDeps) {
    this.#input = input;
    this.#deps = deps;
    for (const { promise } of [this.#complete, this.#guarded]) promise.catch(() => {});
  }

  /** Listens in CRIU's work directory. What it answers with serves until 'ended', whoever forgets it. */
  static async start(workDir: string, input: LazyMemoryInput, deps: LazyMemoryDeps): Promise<LazyMemory> {
    const memory = new LazyMemory(input, deps);
    memory.#serve(workDir);
    try {
      memory.#startGuard();
      await within(memory.#guarded.promise, GUARD_READY_MS, 'The guard of the restored memory did not start');
    } catch (cause) {
      memory.finish();
      throw cause;
    }
    void memory.#follow();
    return memory;
  }

  get complete(): Promise<void> {
    return this.#complete.promise;
  }

  /** Whose memory it is, and where it lay when it was saved. */
  get processes(): readonly PagedProcess[] {
    return this.#input.plan.processes;
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Whom the guard ends besides, and what to do when memory cannot be had right. Throws if that is known already. */
  attach(pid: number, onFailed: (error: RestoreError) => void): void {
    if (this.#failure) throw this.#failure;
    this.#onFailed = onFailed;
    if (this.#server) this.#deps.calls.pageServerProcess(this.#server, this.#deps.calls.pidfdOpen(pid));
    this.#drain();
  }

  /** Not before runc and CRIU are through: copiers on every core would hold them up, and with them the processes. */
  #drain(): void {
    if (this.#server && this.#input.record === undefined) this.#deps.calls.pageServerDrain(this.#server);
  }

  finish(): void {
    if (this.#server && !this.#over) this.#deps.calls.pageServerFinish(this.#server);
  }

  #serve(workDir: string): void {
    const { calls } = this.#deps;
    const { imagesDir, index, plan, cgroups } = this.#input;
    // A socket's path has at most 107 bytes; a bundle's may have more.
    const directory = openSync(workDir, constants.O_RDONLY | constants.O_DIRECTORY);
    const opened = [directory];
    try {
      const path = `/proc/self/fd/${directory}/${SOCKET}`;
      removeFile(path);
      const listener = calls.consoleListen(path);
      opened.push(listener);
      const files = plan.files.map(({ name, size, firstOrdinal, chunks }) => {
        const fd = openSync(join(imagesDir, name), constants.O_RDONLY | constants.O_NOFOLLOW);
        opened.push(fd);
        return { fd, size, firstOrdinal, chunks };
      });
      this.#server = calls.pageServerStart(
        listener,
        files,
        plan.processes,
        index.chunkCount,
        Uint32Array.from(index.accessOrder),
        cgroups,
        availableParallelism(),
        false,
        (event) => this.#on(event),
      );
    } finally {
      for (const fd of opened) closeSync(fd);
    }
  }

  #on(event: PageServerEvent): void {
    const { log } = this.#deps;
    switch (event.kind) {
      case 'guard-ready':
        this.#guarded.resolve();
        return;
      case 'guard-lost':
        if (this.#over) return;
        log.warn(
          { checkpoint: this.#input.id },
          'the guard of the restored memory is gone; starting another',
        );
        void this.#replaceGuard();
        return;
      case 'restored':
        log.debug({ checkpoint: this.#input.id }, 'the processes run, their memory follows');
        setTimeout(() => this.#drain(), SETTLE_MS).unref();
        return;
      case 'wanted':
        void this.#want(event.ordinals);
        return;
      case 'failed': {
        const { code, message } = describeError(event.error);
        this.#fail(
          new RestoreError(code, `Cannot read the checkpoint's memory: ${message}`, { cause: event.error }),
        );
        return;
      }
      case 'ended':
        void this.#end();
        return;
      default:
        event satisfies never;
    }
  }

  async #end(): Promise<void> {
    if (!this.#server) return;
    this.#over = true;
    const { faults, zeroFaults, faultBytes, drainedBytes, missingBytes, touched } =
      this.#deps.calls.pageServerStats(this.#server);
    const ms = Math.round(performance.now() - this.#began);
    this.#deps.log.info(
      { checkpoint: this.#input.id, ms, faults, zeroFaults, faultBytes, drainedBytes, missingBytes },
      'no memory of the checkpoint is waited for any more',
    );
    this.#server = undefined;
    this.#connection?.close();
    await this.#record(touched);
    if (this.#failure) this.#complete.reject(this.#failure);
    else this.#complete.resolve();
    this.#ended.resolve();
  }

  async #record(touched: Iterable<number>): Promise<void> {
    try {
      await this.#input.record?.(touched);
    } catch (error) {
      const { message } = describeError(error);
      this.#deps.log.warn(
        { checkpoint: this.#input.id, reason: message },
        'cannot write down which memory was touched',
      );
    }
  }

  #fail(failure: RestoreError): void {
    if (this.#failure || this.#over) return;
    this.#failure = failure;
    this.#onFailed?.(failure);
  }

  async #replaceGuard(): Promise<void> {
    if (++this.#guards > QUICK_GUARDS) await sleep(GUARD_WAIT_MS);
    for (;;) {
      try {
        this.#startGuard();
        return;
      } catch (error) {
        const { message } = describeError(error);
        this.#deps.log.error(
          { checkpoint: this.#input.id, reason: message },
          'cannot start a guard of the restored memory; trying again',
        );
        await sleep(GUARD_WAIT_MS);
      }
    }
  }

  #startGuard(): void {
    const { calls, spawner, guardProgram } = this.#deps;
    if (!this.#server || this.#over) return;
    const [ours, theirs] = calls.messageSockets();
    try {
      spawner
        .run(guardProgram, ['guard'], {
          env: {},
          cwd: '/',
          deadlineMs: Number.POSITIVE_INFINITY,
          extraFds: [theirs],
        })
        .catch((error: unknown) =>
          this.#guarded.reject(
            new RestoreError(Code.internal, 'Cannot start the guard of the restored memory', {
              cause: error,
            }),
          ),
        );
    } finally {
      closeSync(theirs);
    }
    calls.pageServerGuard(this.#server, ours);
  }

  /** Chunks that a process waits for come before all others. */
  async #want(ordinals: readonly number[]): Promise<void> {
    const fresh = ordinals.filter((ordinal) => !this.#wanted.has(ordinal));
    if (fresh.length === 0) return;
    for (const ordinal of fresh) this.#wanted.add(ordinal);
    await this.#untilOver(async () => {
      await (await this.#daemon()).want(this.#input.id, fresh, WANT_MS);
      this.#present(bitsOf(fresh, this.#input.index.chunkCount));
      return true;
    });
    for (const ordinal of fresh) this.#wanted.delete(ordinal);
  }

  /** Tells the page server what has arrived, until all has. */
  async #follow(): Promise<void> {
    const { chunkCount } = this.#input.index;
    let known = 0;
    await this.#untilOver(async () => {
      const { bits, chunks, complete } = await (await this.#daemon()).presence(this.#input.id, known);
      this.#present(complete ? allBits(chunkCount) : bits);
      // Nothing comes any more: what is missing may be corrupt, which only a question for it tells.
      if (!complete && chunks === known) void this.#want(clearBits(bits, chunkCount, MOST_ASKED));
      known = chunks;
      return complete;
    });
  }

  async #daemon(): Promise<DaemonConnection> {
    if (!this.#connecting || (this.#connection && !this.#connection.usable)) {
      this.#connection = undefined;
      this.#connecting = this.#deps.daemon.connect();
    }
    const connecting = this.#connecting;
    try {
      this.#connection = await connecting;
    } catch (error) {
      if (this.#connecting === connecting) this.#connecting = undefined;
      throw error;
    }
    // The last of it may have come meanwhile.
    if (this.#over) this.#connection.close();
    return this.#connection;
  }

  #present(bits: Uint8Array): void {
    if (this.#server) this.#deps.calls.pageServerPresent(this.#server, bits);
  }

  /**
   * Asks again until the answer is true or nobody needs it. A daemon that is away is waited for: the process waits too, and
   * goes on with right bytes. Bytes that can never be right end the container.
   */
  async #untilOver(ask: () => Promise<boolean>): Promise<void> {
    let wait = FIRST_WAIT_MS;
    let locates = 0;
    while (!this.#over && !this.#failure) {
      try {
        if (await ask()) return;
        wait = FIRST_WAIT_MS;
        locates = 0;
      } catch (cause) {
        const { code, message } = describeError(cause);
        const isUnknown = code === Code.notFound;
        if (isUnknown) await this.#input.relocate().catch(() => {});
        if (FINAL.has(code) || (isUnknown && ++locates > MOST_LOCATES)) {
          this.#fail(new RestoreError(code, `Cannot have the checkpoint's memory: ${message}`, { cause }));
          return;
        }
        if (wait === FIRST_WAIT_MS)
          this.#deps.log.warn(
            { checkpoint: this.#input.id, reason: message },
            'waiting for memory of the checkpoint',
          );
        await sleep(wait);
        wait = Math.min(wait * 2, LONGEST_WAIT_MS);
      }
    }
  }
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

async function within(promise: Promise<void>, ms: number, what: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new RestoreError(Code.deadlineExceeded, `${what} within ${ms} ms`)), ms);
  });
  try {
    await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
