/**
 * One container: the states of its init and its execs, and what each call may do in which. Transitions run one at a time;
 * State and Wait are answered from memory and never wait for them.
 */
import { Code } from '../../proto/status.ts';
import type { EncodedStats } from '../cgroup/index.ts';
import { ShimError } from '../error.ts';
import type { Log } from '../log.ts';
import type { Exit } from '../process/exits.ts';
import { isRunc } from '../runc/runc.ts';
import { within } from '../stdio/index.ts';
import type { ContainerConfig, ContainerDeps } from './container-config.ts';
import { dump } from './dump.ts';
import { Execs } from './execs.ts';
import { InitCgroup } from './init-cgroup.ts';
import { InitLaunch } from './init-launch.ts';
import { Mutex } from './mutex.ts';
import type { OciSpec } from './oci-spec.ts';
import type { DumpOptions } from './options.ts';
import { TaskProcess } from './process.ts';
import { Rootfs } from './rootfs.ts';
import type { AfterResume, StartPlan } from './start-plan.ts';
import { warnOf } from './warn-of.ts';

/** Something else may hold the pipes of a process that ended; as long as containerd's own shim waits for it. */
const DRAIN_MS = 10_000;
/** How long a process that runc has just killed may take to be seen ending. */
const REAP_MS = 5_000;
/** How long a signal may take to be answered once what it ended has ended. */
const SIGNALLED_MS = 5_000;
const SIGKILL = 9;

export class Container {
  readonly config: ContainerConfig;
  readonly init: TaskProcess;
  readonly execs: Execs;
  readonly #deps: ContainerDeps;
  /** With the container's name. */
  readonly #log: Log;
  readonly #lock = new Mutex();
  readonly #rootfs: Rootfs;
  readonly #launch: InitLaunch;
  /** What a dump of the paused container has left to do. */
  #afterResume: AfterResume | undefined;
  readonly #cgroup: InitCgroup;
  /** Kills that are not answered yet. */
  readonly #signals = new Set<Promise<void>>();

  constructor(config: ContainerConfig, deps: ContainerDeps) {
    this.config = config;
    this.#deps = deps;
    this.init = new TaskProcess(config.id, config.stdio);
    this.execs = new Execs(config, this.init, deps);
    this.#log = deps.log.child({ container: config.id });
    this.#rootfs = new Rootfs(config.bundle, deps.calls);
    this.#launch = new InitLaunch(config, this.init, {
      calls: deps.calls,
      watcher: deps.watcher,
      rootfs: this.#rootfs,
      onProcess: (pid) => this.#watchInit(pid),
      log: deps.log,
    });
    this.#cgroup = new InitCgroup(config.spec.linux?.cgroupsPath, {
      cgroups: deps.cgroups,
      onOom: () => deps.publish({ kind: 'oom', containerId: config.id }),
      log: this.#log,
    });
  }

  get id(): string {
    return this.config.id;
  }

  /** Its first process will come from a checkpoint, at Start. */
  get restorePending(): boolean {
    return this.#launch.restorePending;
  }

  process(execId: string): TaskProcess {
    return execId === '' ? this.init : this.execs.get(execId);
  }

  /** Mounts the root file system and makes the container, or prepares for its restore. All or nothing. */
  create(plan: StartPlan): Promise<void> {
    return this.#lock.run(async () => {
      try {
        await this.#launch.prepare(plan);
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
        if (this.init.pid === 0 && !this.restorePending)
          throw new ShimError(Code.failedPrecondition, 'cannot start a container whose restore has failed');
        this.init.state = { kind: 'starting' };
        try {
          await this.#launch.run();
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
      this.#launch.callOff();
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
    await this.#launch.memoryComplete();
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
      this.#launch.callOff();
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
    } catch (error) {
      // runc has more errors for a process that ends meanwhile than those that say so.
      if (!this.#hasEnded) throw error;
      throw new ShimError(Code.notFound, 'process already finished', { cause: error });
    } finally {
      this.#signals.delete(killing);
    }
  }

  /** All of it: nothing else can be left that a signal is for. */
  get #hasEnded(): boolean {
    const { kind } = this.init.state;
    return (kind === 'stopped' || kind === 'deleted') && !sharesPidNamespace(this.config.spec);
  }

  /** Only if nothing else, an exit for example, came in between. */
  #transition(from: 'running' | 'paused', to: 'running' | 'paused'): void {
    if (this.init.state.kind === from) this.init.state = { kind: to };
  }

  #watchInit(pid: number): Promise<Exit> {
    this.init.pid = pid;
    this.#cgroup.find(pid);
    const gone = this.#deps.watcher.watch(pid);
    void gone.then((exit) => this.#initExited(exit));
    return gone;
  }

  async #initExited(exit: Exit): Promise<void> {
    const { init, config } = this;
    this.#launch.ended(exit.status);
    await init.passGate();
    // From here on no exec starts; those that run are reported before the init is.
    const execsEnded = this.execs.end();
    if (init.state.kind === 'paused') {
      await config.runc.resume(this.id).catch(warnOf(this.#log, 'cannot thaw'));
    }
    if (sharesPidNamespace(config.spec)) {
      await config.runc.kill(this.id, SIGKILL, true).catch(warnOf(this.#log, 'cannot kill what is left'));
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
    await this.#launch.discard();
    await this.#cleanUp().catch(warnOf(this.#log, 'cannot clean up a failed container'));
  }

  async #cleanUp(): Promise<void> {
    try {
      this.#cgroup.close();
      await this.init.io?.close();
      await this.execs.close();
      await this.#rootfs.unmount();
    } finally {
      await this.#launch.release();
    }
  }
}

/** Where the init's end does not end everything else in the container. */
function sharesPidNamespace(spec: OciSpec): boolean {
  const own = spec.linux?.namespaces?.find((namespace) => namespace.type === 'pid');
  return own === undefined || Boolean(own.path);
}
