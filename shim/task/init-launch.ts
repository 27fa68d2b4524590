/**
 * How a container comes by its first process. Cold: runc makes it at Create and lets it run at Start. From a checkpoint:
 * all of the restore takes place in Start, and where it fails, a cold start takes its place there.
 */
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { Log } from '../log.ts';
import { letInitRun } from '../runc/exec-fifo.ts';
import { isRunc, START_DEADLINE_MS } from '../runc/runc.ts';
import { openProcessIo, type ProcessIo, within } from '../stdio/index.ts';
import { bundlePaths, readPid } from './bundle.ts';
import type { ContainerConfig, ContainerDeps } from './container-config.ts';
import type { TaskProcess } from './process.ts';
import type { Rootfs } from './rootfs.ts';
import type { Mount, RestoredMemory, RestorePlan, StartPlan } from './start-plan.ts';
import { warnOf } from './warn-of.ts';

/** How long the page server may take to see that all processes are gone. */
const MEMORY_END_MS = 5_000;
const SIGKILL = 9;
const RESTORE_FAILED = 'OCI runtime restore failed: ';

export interface InitLaunchDeps extends Pick<ContainerDeps, 'calls' | 'watcher'> {
  rootfs: Rootfs;
  /** There is a process, whose exit the watcher holds back until this returns. Resolves when it is gone. */
  onProcess: (pid: number) => Promise<unknown>;
  log: Log;
}

export class InitLaunch {
  readonly #config: ContainerConfig;
  readonly #init: TaskProcess;
  readonly #deps: InitLaunchDeps;
  /** With the container's name. */
  readonly #log: Log;
  #pending: RestorePlan | undefined;
  #release: () => Promise<void> = async () => {};
  #memory: RestoredMemory | undefined;
  /** Milliseconds of the monotonic clock; undefined for a cold start. */
  #restoredAt: number | undefined;
  #gone: Promise<unknown> = Promise.resolve();

  constructor(config: ContainerConfig, init: TaskProcess, deps: InitLaunchDeps) {
    this.#config = config;
    this.#init = init;
    this.#deps = deps;
    this.#log = deps.log.child({ container: config.id });
  }

  /** The process will come from a checkpoint, at Start. */
  get restorePending(): boolean {
    return this.#pending !== undefined;
  }

  /** At Create. What it leaves of a failure is for `discard` and `release`. */
  async prepare(plan: StartPlan): Promise<void> {
    if (plan.kind === 'restore') this.#release = () => plan.release();
    await this.#deps.rootfs.mount(plan.rootfs);
    this.#init.io = await this.#openIo();
    if (plan.kind === 'restore') this.#pending = plan;
    else await this.#create(this.#init.io);
  }

  /** At Start. */
  async run(): Promise<void> {
    const plan = this.#pending;
    this.#pending = undefined;
    if (!plan) return this.#letRun();
    const rootfs = await this.#restore(plan);
    if (rootfs) await this.#startCold(rootfs);
  }

  /** No restore will take place. */
  callOff(): void {
    this.#pending = undefined;
  }

  /** Resolves when all memory of a restored process is here; rejects if that cannot be. */
  async memoryComplete(): Promise<void> {
    await this.#memory?.complete;
  }

  /** The process is gone. */
  ended(status: number): void {
    if (this.#restoredAt !== undefined) {
      const ms = Math.round(performance.now() - this.#restoredAt);
      this.#log.info({ pid: this.#init.pid, status, ms }, 'what was restored has ended');
    }
    this.#memory?.finish();
  }

  /** Takes from runc what is of no use to anybody. */
  async discard(): Promise<void> {
    if (this.#pending || !this.#init.io) return;
    await this.#config.runc
      .delete(this.#config.id, true)
      .catch(warnOf(this.#log, 'cannot remove a failed container'));
  }

  /** Gives back what a restore holds, once nothing runs and nothing is mounted any more. */
  async release(): Promise<void> {
    if (this.#memory) await within(this.#memory.ended, MEMORY_END_MS);
    await this.#release();
  }

  #openIo(): Promise<ProcessIo> {
    const { options, stdio, id, namespace, bundle, runc } = this.#config;
    const { calls, log } = this.#deps;
    const owner = { uid: options.ioUid, gid: options.ioGid };
    return openProcessIo(
      { paths: stdio, owner, id, containerId: id, namespace, bundle },
      { calls, spawner: runc.spawner, log },
    );
  }

  async #create(io: ProcessIo): Promise<void> {
    const { id, bundle, options, runc } = this.#config;
    const pidFile = bundlePaths(bundle).initPid;
    const { noPivotRoot: noPivot, noNewKeyring } = options;
    const { childStdio: stdio, consoleSocket } = io;
    await this.#deps.watcher.holding(async () => {
      await runc.create(
        { id, bundle, pidFile, consoleSocket, noPivot, noNewKeyring },
        { stdio, cwd: bundle },
      );
      // Before anybody watches: what fails here is a failed Create, no container that ended.
      await io.started();
      this.#gone = this.#deps.onProcess(readPid(pidFile));
    });
  }

  async #letRun(): Promise<void> {
    const { id, runc, spec } = this.#config;
    const waiting = {
      stateDir: join(runc.config.root, id),
      exited: this.#gone,
      deadlineMs: START_DEADLINE_MS,
    };
    // Hooks are runc's to run, and another runtime may wait for something else.
    const direct = isRunc(runc.config) && !spec.hooks?.poststart?.length;
    if (direct && (await letInitRun(waiting, this.#deps.calls))) return;
    await runc.start(id);
  }

  /** Undefined if it succeeded, else what to mount for a cold start. */
  async #restore(plan: RestorePlan): Promise<readonly Mount[] | undefined> {
    const { id, bundle, namespace, options, runc } = this.#config;
    const { log, watcher } = this.#deps;
    const paths = bundlePaths(bundle);
    const io = this.#init.io ?? (await this.#openIo());
    this.#init.io = io;
    const begun = performance.now();
    const outcome = await watcher.holding(async () => {
      const result = await plan.restore({
        id,
        bundle,
        namespace,
        runc,
        log,
        stdio: io.childStdio,
        consoleSocket: io.consoleSocket,
        pidFile: paths.initPid,
        workDir: paths.work,
        noPivot: options.noPivotRoot,
      });
      if (result.kind === 'restored') {
        this.#restoredAt = performance.now();
        this.#gone = this.#deps.onProcess(result.pid);
      }
      return result;
    });
    const ms = Math.round(performance.now() - begun);
    if (outcome.kind === 'restored') {
      this.#memory = outcome.memory;
      await this.#startStreams(io);
      this.#log.info({ pid: outcome.pid, ms }, 'restored');
      return undefined;
    }
    const { reason, rootfs } = outcome;
    if (plan.required)
      throw new ShimError(Code.failedPrecondition, `${RESTORE_FAILED}${reason.replace(RESTORE_FAILED, '')}`);
    this.#log.warn({ ms, reason }, 'restore failed, starting cold');
    return rootfs;
  }

  async #startCold(mounts: readonly Mount[]): Promise<void> {
    const { rootfs } = this.#deps;
    await rootfs.unmount();
    await rootfs.mount(mounts);
    const before = this.#init.io;
    let io = before;
    if (!io?.reusable) {
      // The new ends are open before the old ones close: a client that reads a fifo never sees it without a writer.
      io = await this.#openIo();
      this.#init.io = io;
      await before?.close();
    }
    try {
      await this.#create(io);
    } catch (error) {
      await this.discard();
      throw error;
    }
    await this.#letRun();
  }

  /** Of a restored process, which runs already. */
  async #startStreams(io: ProcessIo): Promise<void> {
    try {
      await io.started();
    } catch (error) {
      await this.#config.runc
        .kill(this.#config.id, SIGKILL, true)
        .catch(warnOf(this.#log, 'cannot end a container without its terminal'));
      throw error;
    }
  }
}
