/** The task service's methods, between protobuf messages and containers. */
import { containerd } from '../../proto/gen/shim.js';
import { Code } from '../../proto/status.ts';
import { method, type Services } from '../../proto/ttrpc/index.ts';
import { ShimError } from '../error.ts';
import type { Log } from '../log.ts';
import type { Runc } from '../runc/runc.ts';
import { completeConfig, forgetOptions, readSpec, saveOptions } from './bundle.ts';
import { Container } from './container.ts';
import type { ContainerDeps } from './container-config.ts';
import { profileToAdd } from './io-uring.ts';
import type { OciSpec } from './oci-spec.ts';
import { decodeDumpOptions, decodeRuncOptions, isSystemdCgroupPath, type RuncOptions } from './options.ts';
import type { TaskProcess } from './process.ts';
import { decodeResources } from './resources.ts';
import type { Mount, StartPlanner } from './start-plan.ts';
import { toTimestamp } from './timestamp.ts';

const task = containerd.task.v2;
const { Status } = containerd.v1.types;
/** Both versions have the same methods and messages; containerd 2.x dials v3 first or v2, by how `start` answered. */
const SERVICE_NAMES = ['containerd.task.v2.Task', 'containerd.task.v3.Task'];
const Empty = { encode: (_: object) => ({ finish: () => new Uint8Array() }) };

export interface TaskServiceDeps extends ContainerDeps {
  namespace: string;
  shimPid: number;
  planner: StartPlanner;
  makeRunc: (bundle: string, options: RuncOptions) => Runc;
  readConfig: (path: string) => Promise<string>;
  /** Whether the kernel knows seccomp filters. */
  hasSeccomp: () => boolean;
  /** A container was made. */
  onContainer: () => void;
  /** The last container is gone, or one that was being made has failed. */
  onEmpty: () => void;
  /** Asked to end while no container is left, or for the one that was just being made. */
  onShutdown: () => void;
  log: Log;
}

export class TaskService {
  readonly #deps: TaskServiceDeps;
  readonly #containers = new Map<string, Container>();
  /** Ids whose Create is not answered yet. */
  readonly #creating = new Set<string>();
  /** Those among them that containerd has given up: it was killed, and does not know them any more. */
  readonly #givenUp = new Set<string>();

  constructor(deps: TaskServiceDeps) {
    this.#deps = deps;
  }

  get empty(): boolean {
    return this.#containers.size === 0 && this.#creating.size === 0;
  }

  services(): Services {
    const methods = {
      State: method(task.StateRequest, task.StateResponse, (r) => this.#state(r)),
      Create: method(task.CreateTaskRequest, task.CreateTaskResponse, (r) => this.#create(r)),
      Start: method(task.StartRequest, task.StartResponse, (r) => this.#start(r)),
      Delete: method(task.DeleteRequest, task.DeleteResponse, (r) => this.#delete(r)),
      Pids: method(task.PidsRequest, task.PidsResponse, (r) => this.#pids(r)),
      Pause: method(task.PauseRequest, Empty, async (r) => {
        await this.#container(r.id).pause();
        return {};
      }),
      Resume: method(task.ResumeRequest, Empty, async (r) => {
        await this.#container(r.id).resume();
        return {};
      }),
      Checkpoint: method(task.CheckpointTaskRequest, Empty, async (r) => {
        await this.#container(r.id).checkpoint(r.path, decodeDumpOptions(r.options));
        return {};
      }),
      Kill: method(task.KillRequest, Empty, (r) => this.#kill(r)),
      Exec: method(task.ExecProcessRequest, Empty, (r) => this.#exec(r)),
      CloseIO: method(task.CloseIORequest, Empty, async (r) => {
        const process = this.#process(r);
        if (r.stdin) process.closeStdin();
        return {};
      }),
      ResizePty: method(task.ResizePtyRequest, Empty, async (r) => {
        this.#process(r).resize(r.width, r.height);
        return {};
      }),
      Stats: method(task.StatsRequest, task.StatsResponse, async (r) => ({
        stats: await this.#container(r.id).stats(),
      })),
      Update: method(task.UpdateTaskRequest, Empty, async (r) => {
        const container = this.#container(r.id);
        await container.update(decodeResources(r.resources));
        return {};
      }),
      Wait: method(task.WaitRequest, task.WaitResponse, async (r) => {
        const exit = await this.#process(r).exited;
        return { exitStatus: exit.status, exitedAt: toTimestamp(exit.at) };
      }),
      Connect: method(task.ConnectRequest, task.ConnectResponse, (r) => ({
        shimPid: this.#deps.shimPid,
        taskPid: this.#containers.get(r.id)?.init.pid ?? 0,
      })),
      Shutdown: method(task.ShutdownRequest, Empty, (r) => {
        // A containerd that comes back asks for the container's processes, is told that there is none yet, and sends this.
        if (this.#creating.has(r.id)) this.#givenUp.add(r.id);
        else if (this.empty) this.#deps.onShutdown();
        return {};
      }),
    };
    return Object.fromEntries(SERVICE_NAMES.map((name) => [name, methods]));
  }

  #container(id: string): Container {
    const container = this.#containers.get(id);
    if (!container) throw new ShimError(Code.notFound, 'container not created');
    return container;
  }

  #process(request: { id: string; execId: string }): TaskProcess {
    return this.#container(request.id).process(request.execId);
  }

  async #create(r: containerd.task.v2.CreateTaskRequest) {
    const { id, bundle, stdin, stdout, stderr, terminal } = r;
    if (this.#containers.has(id) || this.#creating.has(id))
      throw new ShimError(Code.alreadyExists, `container ${id} already exists`);
    this.#creating.add(id);
    try {
      const rootfs = r.rootfs.map(toMount);
      const spec = readSpec(bundle);
      const options = await this.#options(r.options, spec);
      saveOptions(bundle, options);
      // A kernel without seccomp could not start it, and a dump of before is restored as it was.
      const seccomp = r.checkpoint || !this.#deps.hasSeccomp() ? undefined : profileToAdd(spec);
      completeConfig(bundle, spec, seccomp);
      const runc = this.#deps.makeRunc(bundle, options);
      const { namespace, planner, log } = this.#deps;
      const checkpoint = r.checkpoint
        ? { imagePath: r.checkpoint, workPath: options.criuWorkPath }
        : undefined;
      const plan = await planner({ id, namespace, bundle, rootfs, checkpoint, spec, runc, log });
      if (this.#givenUp.has(id)) {
        // containerd has removed the bundle, and what is mounted now would make it anew.
        if (plan.kind === 'restore') await plan.release();
        throw givenUp(id);
      }
      const container = new Container(
        { id, namespace, bundle, spec, options, runc, stdio: { stdin, stdout, stderr, terminal } },
        this.#deps,
      );
      await container.create(plan);
      if (this.#givenUp.has(id)) {
        await container.discard();
        throw givenUp(id);
      }
      this.#containers.set(id, container);
      this.#deps.onContainer();
      const { pid } = container.init;
      this.#deps.publish({
        kind: 'create',
        containerId: id,
        bundle,
        rootfs,
        stdin,
        stdout,
        stderr,
        terminal,
        checkpoint: r.checkpoint,
        pid,
      });
      return { pid };
    } finally {
      this.#creating.delete(id);
      const unwanted = this.#givenUp.delete(id);
      if (this.empty) {
        this.#deps.onEmpty();
        if (unwanted) this.#deps.onShutdown();
      }
    }
  }

  async #options(any: containerd.task.v2.CreateTaskRequest['options'], spec: OciSpec): Promise<RuncOptions> {
    const options = await decodeRuncOptions(any, {
      readConfig: this.#deps.readConfig,
      onUnknown: (type) => this.#deps.log.warn({ type }, 'unknown options ignored'),
    });
    const systemdCgroup = options.systemdCgroup || isSystemdCgroupPath(spec.linux?.cgroupsPath);
    return { ...options, systemdCgroup };
  }

  async #start(r: containerd.task.v2.StartRequest) {
    const container = this.#container(r.id);
    return { pid: await (r.execId ? container.execs.start(r.execId) : container.start()) };
  }

  async #delete(r: containerd.task.v2.DeleteRequest) {
    const container = this.#container(r.id);
    if (r.execId) {
      const { pid, exit } = await container.execs.delete(r.execId);
      return { pid, exitStatus: exit.status, exitedAt: toTimestamp(exit.at) };
    }
    const exit = await container.delete();
    // Without a pause in between: what is deleted is neither found again nor keeps the server from ending.
    this.#containers.delete(r.id);
    if (this.empty) this.#deps.onEmpty();
    forgetOptions(container.config.bundle);
    return { pid: container.init.pid, exitStatus: exit.status, exitedAt: toTimestamp(exit.at) };
  }

  async #kill(r: containerd.task.v2.KillRequest) {
    const container = this.#container(r.id);
    if (r.execId) container.execs.kill(r.execId, r.signal);
    else await container.kill(r.signal, r.all);
    return {};
  }

  async #exec(r: containerd.task.v2.ExecProcessRequest) {
    const { stdin, stdout, stderr, terminal } = r;
    const container = this.#container(r.id);
    if (container.restorePending)
      throw new ShimError(Code.failedPrecondition, 'cannot exec in a created state');
    container.execs.add(r.execId, r.spec?.value ?? new Uint8Array(), { stdin, stdout, stderr, terminal });
    return {};
  }

  async #pids(r: containerd.task.v2.PidsRequest) {
    const container = this.#container(r.id);
    const pids = await container.pids();
    return {
      processes: pids.map((pid) => {
        const execId = container.execs.idOf(pid);
        if (execId === undefined) return { pid };
        const value = containerd.runc.v1.ProcessDetails.encode({ execId }).finish();
        return { pid, info: { type_url: 'containerd.runc.v1.ProcessDetails', value } };
      }),
    };
  }

  #state(r: containerd.task.v2.StateRequest) {
    const container = this.#container(r.id);
    const process = container.process(r.execId);
    const { state } = process;
    return {
      id: process.id,
      bundle: container.config.bundle,
      pid: process.pid,
      status: statusOf(state.kind),
      ...process.stdio,
      exitStatus: state.kind === 'stopped' ? state.exit.status : 0,
      // Not exited: the zero time of Go, as containerd's own shim answers.
      exitedAt: state.kind === 'stopped' ? toTimestamp(state.exit.at) : ZERO_TIME,
      execId: r.execId,
    };
  }
}

function givenUp(id: string): ShimError {
  return new ShimError(Code.aborted, `container ${id} was given up while it was made`);
}

/** 0001-01-01, Go's time.Time{}. */
const ZERO_TIME = { seconds: -62135596800, nanos: 0 };

function statusOf(kind: TaskProcess['state']['kind']) {
  switch (kind) {
    case 'created':
    case 'starting':
      return Status.CREATED;
    case 'running':
      return Status.RUNNING;
    case 'paused':
      return Status.PAUSED;
    case 'stopped':
    case 'deleted':
      return Status.STOPPED;
  }
}

function toMount(mount: {
  type?: string | null;
  source?: string | null;
  target?: string | null;
  options?: string[] | null;
}): Mount {
  return {
    type: mount.type ?? '',
    source: mount.source ?? '',
    target: mount.target ?? '',
    options: mount.options ?? [],
  };
}
