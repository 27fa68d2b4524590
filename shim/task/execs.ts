/** Further processes of one container. */
import { unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { Exit } from '../process/exits.ts';
import { openProcessIo, type StdioPaths } from '../stdio/index.ts';
import { readPid } from './bundle.ts';
import type { ContainerConfig, ContainerDeps } from './container-config.ts';
import { TaskProcess } from './process.ts';

/** containerd's identifiers; the id becomes a file name. */
const EXEC_ID = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/;
const DRAIN_MS = 10_000;
/** containerd's, of a process whose exit nobody saw. */
const UNKNOWN_STATUS = 255;

interface Exec {
  process: TaskProcess;
  /** JSON of an OCI process. */
  spec: Uint8Array;
}

export class Execs {
  readonly #config: ContainerConfig;
  readonly #init: TaskProcess;
  readonly #deps: ContainerDeps;
  readonly #execs = new Map<string, Exec>();
  /** One for each exec from the beginning of its Start until its exit is reported. */
  readonly #live = new Set<Promise<void>>();
  #ending = false;
  /** Settles when a dump that must not be disturbed is over. */
  #quiet: Promise<unknown> = Promise.resolve();

  constructor(config: ContainerConfig, init: TaskProcess, deps: ContainerDeps) {
    this.#config = config;
    this.#init = init;
    this.#deps = deps;
  }

  get(execId: string): TaskProcess {
    const exec = this.#execs.get(execId);
    if (!exec) throw new ShimError(Code.notFound, `process does not exist ${execId}`);
    return exec.process;
  }

  /** Exec id of a pid that is one. */
  idOf(pid: number): string | undefined {
    for (const { process } of this.#execs.values()) if (process.pid === pid) return process.id;
    return undefined;
  }

  add(execId: string, spec: Uint8Array, stdio: StdioPaths): void {
    if (!EXEC_ID.test(execId))
      throw new ShimError(Code.invalidArgument, `"${execId}" is no identifier for a process`);
    if (this.#execs.has(execId) || execId === this.#config.id)
      throw new ShimError(Code.alreadyExists, `id ${execId}`);
    const { kind } = this.#init.state;
    if (kind === 'paused' || kind === 'stopped' || kind === 'deleted')
      throw new ShimError(Code.failedPrecondition, `cannot exec in a ${kind} state`);
    checkProcess(spec);
    this.#execs.set(execId, { process: new TaskProcess(execId, stdio), spec });
    this.#deps.publish({ kind: 'exec-added', containerId: this.#config.id, execId });
  }

  async start(execId: string): Promise<number> {
    const process = this.get(execId);
    await this.#quiet;
    // A container that is created has a process to join; one that will come from a checkpoint has none yet.
    if (this.#ending || this.#init.state.kind === 'stopped' || this.#init.pid === 0)
      throw new ShimError(
        Code.failedPrecondition,
        `container ${this.#config.id} init process is not running`,
      );
    if (process.state.kind !== 'created')
      throw new ShimError(Code.failedPrecondition, `cannot start a ${process.state.kind} process`);
    const live = Promise.withResolvers<void>();
    this.#live.add(live.promise);
    const over = () => {
      live.resolve();
      this.#live.delete(live.promise);
    };
    process.state = { kind: 'starting' };
    return process.gated(async () => {
      try {
        await this.#runcExec(process, over);
      } catch (error) {
        await process.io?.close();
        process.io = undefined;
        // Whoever waits for it already shall not wait for ever.
        process.stopped({ status: UNKNOWN_STATUS, at: this.#deps.now() });
        over();
        throw error;
      }
      process.state = { kind: 'running' };
      this.#deps.publish({
        kind: 'exec-started',
        containerId: this.#config.id,
        execId,
        pid: process.pid,
      });
      return process.pid;
    });
  }

  kill(execId: string, signal: number): void {
    const target = this.get(execId);
    if (target.state.kind === 'stopped' || target.state.kind === 'deleted')
      throw new ShimError(Code.notFound, 'process already finished');
    if (target.pid === 0) throw new ShimError(Code.failedPrecondition, 'process not created');
    try {
      // The pid cannot be another process's: ours is not reaped as long as its state is not "stopped".
      process.kill(target.pid, signal);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') throw cause;
      throw new ShimError(Code.notFound, 'process already finished', { cause });
    }
  }

  async delete(execId: string): Promise<{ pid: number; exit: Exit }> {
    const process = this.get(execId);
    process.checkDeletable();
    await process.io?.finish(DRAIN_MS);
    const exit = process.state.kind === 'stopped' ? process.state.exit : { status: 0, at: 0n };
    process.state = { kind: 'deleted' };
    this.#execs.delete(execId);
    this.#remove(`${execId}.pid`);
    return { pid: process.pid, exit };
  }

  /** The init ended: refuses new ones and waits until the exits of all that ran are reported. */
  async end(): Promise<void> {
    this.#ending = true;
    await Promise.all(this.#live);
  }

  /** Runs work during which no exec may start. */
  async quiet<Result>(work: () => Promise<Result>): Promise<Result> {
    const done = work();
    this.#quiet = done.catch(() => {});
    return done;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#execs.values()].map(({ process }) => process.io?.close()));
  }

  async #runcExec(process: TaskProcess, over: () => void): Promise<void> {
    const { id, bundle, namespace, options, runc } = this.#config;
    const { calls, watcher, log } = this.#deps;
    const spec = join(bundle, `${process.id}.process.json`);
    const pidFile = join(bundle, `${process.id}.pid`);
    const owner = { uid: options.ioUid, gid: options.ioGid };
    const io = await openProcessIo(
      { paths: process.stdio, owner, id: process.id, containerId: id, namespace, bundle },
      { calls, spawner: runc.spawner, log },
    );
    process.io = io;
    await watcher.holding(async () => {
      try {
        writeFileSync(spec, this.#execs.get(process.id)?.spec ?? '', { mode: 0o600 });
        const { childStdio, consoleSocket } = io;
        await runc.exec({ id, process: spec, pidFile, consoleSocket }, { stdio: childStdio, cwd: bundle });
      } finally {
        this.#remove(`${process.id}.process.json`);
      }
      const pid = readPid(pidFile);
      try {
        await io.started();
      } catch (error) {
        // Without its terminal it is of no use to anybody, and nobody was told of it. Not reaped yet: the pid is its own.
        globalThis.process.kill(pid, 'SIGKILL');
        throw error;
      }
      process.pid = pid;
      void watcher.watch(process.pid).then(async (exit) => {
        await process.passGate();
        process.stopped(exit);
        this.#deps.publish({
          kind: 'exit',
          containerId: id,
          id: process.id,
          pid: process.pid,
          status: exit.status,
          exitedAt: exit.at,
        });
        over();
      });
    });
  }

  #remove(name: string): void {
    try {
      unlinkSync(join(this.#config.bundle, name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

/** Throws unless it is the JSON of an object; what is in it is runc's to judge. */
function checkProcess(spec: Uint8Array): void {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(spec).toString());
  } catch (cause) {
    throw new ShimError(Code.invalidArgument, 'Cannot decode the process to execute', { cause });
  }
  if (typeof parsed !== 'object' || parsed === null)
    throw new ShimError(Code.invalidArgument, 'Cannot execute what is no process');
}
