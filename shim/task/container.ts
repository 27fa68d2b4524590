/**
 * One container: its init, its execs, its root file system and its life in runc. Transitions run one at a time; State and
 * Wait are answered from memory and never wait for them.
 */
import { join } from 'node:path';
import { Code, describeError } from '../../proto/status.ts';
import type { CgroupFinder, EncodedStats } from '../cgroup/index.ts';
import { ShimError } from '../error.ts';
import type { TaskEvent } from '../events/index.ts';
import type { Log } from '../log.ts';
import { type MountCalls, mountRootfs, unmountRootfs } from '../mounts/index.ts';
import type { Exit, ExitWatcher } from '../process/exits.ts';
import { type ExecFifoCalls, letInitRun } from '../runc/exec-fifo.ts';
import { isRunc, type Runc, START_DEADLINE_MS } from '../runc/runc.ts';
import { type IoDeps, openProcessIo, type ProcessIo, type StdioPaths, within } from '../stdio/index.ts';
import { bundlePaths, readPid } from './bundle.ts';
import { dump } from './dump.ts';
import { Execs } from './execs.ts';
import { InitCgroup } from './init-cgroup.ts';
import { Mutex } from './mutex.ts';
import type { OciSpec } from './oci-spec.ts';
import type { DumpOptions, RuncOptions } from './options.ts';
import { TaskProcess } from './process.ts';
import type {
  AfterResume,
  ContainerPaths,
  Mount,
  PrepareDump,
  RestoredMemory,
  RestorePlan,
  StartPlan,
} from './start-plan.ts';

export interface ContainerDeps {
  calls: MountCalls & IoDeps['calls'] & ExecFifoCalls;
  watcher: Pick<ExitWatcher, 'watch' | 'holding'>;
  publish: (event: TaskEvent) => void;
  prepareDump: PrepareDump;
  cgroups: Pick<CgroupFinder, 'find'>;
  /** Nanoseconds since 1970. */
  now: () => bigint;
  log: Log;
}

export interface ContainerConfig extends ContainerPaths {
  spec: OciSpec;
  options: RuncOptions;
  stdio: StdioPaths;
  runc: Runc;
}

/** Something else may hold the pipes of a process that ended; as long as containerd's own shim waits for it. */
const DRAIN_MS = 10_000;
/** How long a process that runc has just killed may take to be seen ending. */
const REAP_MS = 5_000;
/** How long the page server may take to see that all processes are gone. */
const MEMORY_END_MS = 5_000;
/** How long a signal may take to be answered once what it ended has ended. */
const SIGNALLED_MS = 5_000;
const SIGKILL = 9;
const RESTORE_FAILED = 'OCI runtime restore failed: ';

export class Container {
  readonly config: ContainerConfig;
  readonly init: TaskProcess;
  readonly execs: Execs;
  readonly #deps: ContainerDeps;
  readonly #lock = new Mutex();
  #pendingRestore: RestorePlan | undefined;
  #release: () => Promise<void> = async () => {};
  #memory: RestoredMemory | undefined;
  /** Milliseconds of the monotonic clock; undefined for a cold start. */
  #restoredAt: number | undefined;
  #mounted = false;
  /** What a dump of the paused container has left to do. */
  #afterResume: AfterResume | undefined;
  readonly #cgroup: InitCgroup;
  /** Kills that are not answered yet. */
  readonly #signals = new Set<Promise<void>>();
  /** Settles when the init has ended, also before that may be told. */
  #initGone: Promise<unknown> = Promise.resolve();

  constructor(config: ContainerConfig, deps: ContainerDeps) {
    this.config = config;
    this.#deps = deps;
    this.init = new TaskProcess(config.id, config.stdio);
    this.execs = new Execs(config, this.init, deps);
    this.#cgroup = new InitCgroup(config.spec.linux?.cgroupsPath, {
      cgroups: deps.cgroups,
      onOom: () => deps.publish({ kind: 'oom', containerId: config.id }),
      log: deps.log.child({ container: config.id }),
    });
  }

  get id(): string {
    return this.config.id;
  }

  /** Its first process will come from a checkpoint, at Start. */
  get restorePending(): boolean {
    return this.#pendingRestore !== undefined;
  }

  process(execId: string): TaskProcess {
    return execId === '' ? this.init : this.execs.get(execId);
  }

  /** Mounts the root file system and makes the container, or prepares for its restore. All or nothing. */
  create(plan: StartPlan): Promise<void> {
    return this.#lock.run(async () => {
      if (plan.kind === 'restore') this.#release = () => plan.release();
      try {
        await this.#mount(plan.rootfs);
        this.init.io = await this.#openIo();
        if (plan.kind === 'restore') this.#pendingRestore = plan;
        else await this.#runcCreate(this.init.io);
      } catch (error) {
        await this.#abandon();
        throw error;
      }
    });
  }

  /** Takes away what `create` made, of which nobody has been told. */
  discard(): Promise<void> {
    return this.#lock.run(async () => {
      this.init.state = { kind: 'deleted' };
      await this.#abandon();
    });
  }

  start(): Promise<number> {
    return this.#lock.run(() =>
      this.init.gated(async () => {
        if (this.init.state.kind !== 'created')
          throw new ShimError(Code.failedPrecondition, `cannot start a ${this.init.state.kind} process`);
        if (this.init.pid === 0 && !this.#pendingRestore)
          throw new ShimError(Code.failedPrecondition, 'cannot start a container whose restore has failed');
        this.init.state = { kind: 'starting' };
        try {
          const plan = this.#pendingRestore;
          this.#pendingRestore = undefined;
          const restored = plan ? await this.#restore(plan) : false;
          if (!restored) await this.#letInitRun();
        } catch (error) {
          if (this.init.state.kind === 'starting') this.init.state = { kind: 'created' };
          throw error;
        }
        this.init.state = { kind: 'running' };
        this.#deps.publish({ kind: 'start', containerId: this.id, pid: this.init.pid });
        return this.init.pid;
      }),
    );
  }

  async kill(signal: number, all: boolean): Promise<void> {
    const { init } = this;
    // A process that runs is signalled at once; one that is being made only when it is known what became of it.
    if (init.state.kind === 'running' || init.state.kind === 'paused') return this.#signal(signal, all);
    await this.#lock.run(async () => {
      if (init.state.kind === 'stopped' || init.state.kind === 'deleted')
        throw new ShimError(Code.notFound, 'process already finished');
      if (init.pid !== 0) return this.#signal(signal, all);
      // Nothing runs yet that could get the signal: the restore will not take place.
      this.#pendingRestore = undefined;
      this.#initEnded({ status: 128 + signal, at: this.#deps.now() });
    });
  }

  pause(): Promise<void> {
    return this.#lock.run(async () => {
      if (this.init.state.kind !== 'running')
        throw new ShimError(Code.failedPrecondition, `cannot pause a ${this.init.state.kind} container`);
      await this.config.runc.pause(this.id);
      this.#transition('running', 'paused');
      this.#deps.publish({ kind: 'paused', containerId: this.id });
    });
  }

  resume(): Promise<void> {
    return this.#lock.run(async () => {
      if (this.init.state.kind !== 'paused')
        throw new ShimError(Code.failedPrecondition, `cannot resume a ${this.init.state.kind} container`);
      await this.config.runc.resume(this.id);
      this.#transition('paused', 'running');
      const afterResume = this.#afterResume;
      this.#afterResume = undefined;
      await afterResume?.();
      this.#deps.publish({ kind: 'resumed', containerId: this.id });
    });
  }

  async checkpoint(path: string, options: DumpOptions): Promise<void> {
    // CRIU cannot dump memory that is registered with a userfaultfd, nor pages that are not there.
    await this.#memory?.complete;
    return this.#lock.run(async () => {
      const { state, pid } = this.init;
      if (state.kind !== 'running' && state.kind !== 'paused')
        throw new ShimError(Code.failedPrecondition, `cannot checkpoint a ${state.kind} container`);
      await this.execs.quiet(() =>
        dump({
          ...this.config,
          pid,
          paused: state.kind === 'paused',
          path,
          options,
          prepareDump: this.#deps.prepareDump,
          onResume: (afterResume) => {
            this.#afterResume = afterResume;
          },
          log: this.#deps.log,
        }),
      );
    });
  }

  /** Changes its limits to the JSON of an OCI LinuxResources. */
  update(resources: Uint8Array): Promise<void> {
    return this.#lock.run(async () => {
      const { state, pid } = this.init;
      if (state.kind === 'stopped' || state.kind === 'deleted')
        throw new ShimError(Code.failedPrecondition, `cannot update a ${state.kind} container`);
      if (pid === 0)
        throw new ShimError(Code.failedPrecondition, 'cannot update a container before its restore');
      await this.config.runc.update(this.id, resources);
    });
  }

  /** NotFound if it is in no cgroup of its own. */
  stats(): Promise<EncodedStats> {
    return this.#cgroup.stats();
  }

  /** Pids of everything in the container; never empty. */
  async pids(): Promise<number[]> {
    // A restarted containerd (1.7 and later) takes a shim without pids for one that leaked and removes the container, with
    // the exit that nobody has heard of yet. So an init that ended, or will come from a checkpoint, is always listed.
    if (this.init.pid === 0 || this.init.state.kind === 'stopped') return [this.init.pid];
    const { runc } = this.config;
    // Where runc is runc, its list is that of the cgroup; others may run processes that are not the kernel's.
    const listed = isRunc(runc.config) ? await this.#cgroup.pids() : undefined;
    const pids = listed?.length ? listed : await runc.ps(this.id);
    // Nothing is left of one that has just ended, before we have heard of it.
    return pids.length > 0 ? pids : [this.init.pid];
  }

  /** Removes the container from runc and from the file system. Throws while it runs. */
  delete(): Promise<Exit> {
    return this.#lock.run(async () => {
      const { init } = this;
      init.checkDeletable();
      // After a Delete containerd closes its connection, also to whoever waits there for the answer to a Kill whose runc is
      // slower than the end of what it killed. Its own shim's Delete waits for the same lock.
      await within(Promise.allSettled(this.#signals), SIGNALLED_MS);
      this.#pendingRestore = undefined;
      if (init.state.kind === 'stopped') await init.io?.finish(DRAIN_MS);
      await this.config.runc.delete(this.id, false);
      // runc killed an init that was never started.
      if (init.pid !== 0) await within(init.exited, REAP_MS);
      await this.#cleanUp();
      const exit = init.state.kind === 'stopped' ? init.state.exit : { status: 0, at: 0n };
      init.state = { kind: 'deleted' };
      this.#deps.publish({
        kind: 'delete',
        containerId: this.id,
        pid: init.pid,
        status: exit.status,
        exitedAt: exit.at,
      });
      return exit;
    });
  }

  async #signal(signal: number, all: boolean): Promise<void> {
    const killing = this.config.runc.kill(this.id, signal, all);
    this.#signals.add(killing);
    try {
      await killing;
    } finally {
      this.#signals.delete(killing);
    }
  }

  /** Only if nothing else, an exit for example, came in between. */
  #transition(from: 'running' | 'paused', to: 'running' | 'paused'): void {
    if (this.init.state.kind === from) this.init.state = { kind: to };
  }

  #openIo(): Promise<ProcessIo> {
    const { options, stdio, id, namespace, bundle, runc } = this.config;
    const { calls, log } = this.#deps;
    const owner = { uid: options.ioUid, gid: options.ioGid };
    return openProcessIo(
      { paths: stdio, owner, id, containerId: id, namespace, bundle },
      { calls, spawner: runc.spawner, log },
    );
  }

  async #mount(rootfs: readonly Mount[]): Promise<void> {
    const paths = bundlePaths(this.config.bundle);
    await mountRootfs(rootfs, paths.rootfs, paths.layers, this.#deps.calls);
    this.#mounted = rootfs.length > 0;
  }

  async #unmount(): Promise<void> {
    if (!this.#mounted) return;
    await unmountRootfs(bundlePaths(this.config.bundle).rootfs, this.#deps.calls);
    this.#mounted = false;
  }

  async #runcCreate(io: ProcessIo): Promise<void> {
    const { id, bundle, options, runc } = this.config;
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
      this.#watchInit(readPid(pidFile));
    });
  }

  /** False if the container was made for a cold start instead. */
  async #restore(plan: RestorePlan): Promise<boolean> {
    const { id, bundle, namespace, options, runc } = this.config;
    const { log, watcher } = this.#deps;
    const paths = bundlePaths(bundle);
    const io = this.init.io ?? (await this.#openIo());
    this.init.io = io;
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
        this.#watchInit(result.pid);
      }
      return result;
    });
    const ms = Math.round(performance.now() - begun);
    if (outcome.kind === 'restored') {
      this.#memory = outcome.memory;
      await this.#startStreams(io);
      log.info({ container: id, pid: outcome.pid, ms }, 'restored');
      return true;
    }
    if (plan.required)
      throw new ShimError(
        Code.failedPrecondition,
        `${RESTORE_FAILED}${outcome.reason.replace(RESTORE_FAILED, '')}`,
      );
    log.warn({ container: id, ms, reason: outcome.reason }, 'restore failed, starting cold');
    await this.#unmount();
    await this.#mount(outcome.rootfs);
    let fresh = io;
    if (!io.reusable) {
      // The new ends are open before the old ones close: a client that reads a fifo never sees it without a writer.
      fresh = await this.#openIo();
      this.init.io = fresh;
      await io.close();
    }
    try {
      await this.#runcCreate(fresh);
    } catch (error) {
      await runc
        .delete(id, true)
        .catch((left: unknown) => this.#warn('cannot remove a failed container', left));
      throw error;
    }
    return false;
  }

  async #letInitRun(): Promise<void> {
    const { id, runc, spec } = this.config;
    const waiting = {
      stateDir: join(runc.config.root, id),
      exited: this.#initGone,
      deadlineMs: START_DEADLINE_MS,
    };
    // Hooks are runc's to run, and another runtime may wait for something else.
    const direct = isRunc(runc.config) && !spec.hooks?.poststart?.length;
    if (direct && (await letInitRun(waiting, this.#deps.calls))) return;
    await runc.start(id);
  }

  /** Of a restored process, which runs already. */
  async #startStreams(io: ProcessIo): Promise<void> {
    try {
      await io.started();
    } catch (error) {
      await this.config.runc
        .kill(this.id, SIGKILL, true)
        .catch((left: unknown) => this.#warn('cannot end a container without its terminal', left));
      throw error;
    }
  }

  #watchInit(pid: number): void {
    this.init.pid = pid;
    this.#cgroup.find(pid);
    const gone = this.#deps.watcher.watch(pid);
    this.#initGone = gone;
    void gone.then((exit) => this.#initExited(exit));
  }

  async #initExited(exit: Exit): Promise<void> {
    const { init, config } = this;
    if (this.#restoredAt !== undefined) {
      const ms = Math.round(performance.now() - this.#restoredAt);
      this.#deps.log.info(
        { container: this.id, pid: init.pid, status: exit.status, ms },
        'what was restored has ended',
      );
    }
    this.#memory?.finish();
    await init.passGate();
    // From here on no exec starts; those that run are reported before the init is.
    const execsEnded = this.execs.end();
    if (init.state.kind === 'paused') {
      await config.runc.resume(this.id).catch((error: unknown) => this.#warn('cannot thaw', error));
    }
    if (sharesPidNamespace(config.spec)) {
      await config.runc
        .kill(this.id, SIGKILL, true)
        .catch((error: unknown) => this.#warn('cannot kill what is left', error));
    }
    await execsEnded;
    this.#cgroup.checkOom();
    this.#initEnded(exit);
  }

  #initEnded(exit: Exit): void {
    const { init } = this;
    if (init.state.kind === 'deleted') return;
    init.stopped(exit);
    this.#deps.publish({
      kind: 'exit',
      containerId: this.id,
      id: this.id,
      pid: init.pid,
      status: exit.status,
      exitedAt: exit.at,
    });
  }

  async #abandon(): Promise<void> {
    if (!this.#pendingRestore && this.init.io)
      await this.config.runc
        .delete(this.id, true)
        .catch((error: unknown) => this.#warn('cannot remove a failed container', error));
    await this.#cleanUp().catch((error: unknown) => this.#warn('cannot clean up a failed container', error));
  }

  async #cleanUp(): Promise<void> {
    try {
      this.#cgroup.close();
      await this.init.io?.close();
      await this.execs.close();
      await this.#unmount();
    } finally {
      if (this.#memory) await within(this.#memory.ended, MEMORY_END_MS);
      await this.#release();
    }
  }

  #warn(what: string, error: unknown): void {
    const { code, message } = describeError(error);
    if (code === Code.notFound) return;
    this.#deps.log.warn({ container: this.id, reason: message }, what);
  }
}

/** Where the init's end does not end everything else in the container. */
function sharesPidNamespace(spec: OciSpec): boolean {
  const own = spec.linux?.namespaces?.find((namespace) => namespace.type === 'pid');
  return own === undefined || Boolean(own.path);
}
