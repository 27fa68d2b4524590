/** A pretended containerd: its folders, its events endpoint, and the shims that it started, which `close` ends. */
import { closeSync, constants, existsSync, mkdirSync, openSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Code, describeError } from '../../../proto/status.ts';
import {
  assertNothingLeft,
  type Leftovers,
  privateDir,
  runDir,
  TestError,
  takeStock,
  until,
} from '../../lib/index.ts';
import { type BundleOptions, makeBundle, makeRootfs, processSpec } from './bundle.ts';
import { EventRecorder } from './event-recorder.ts';
import type { Peer } from './peer.ts';
import { type Address, type Daemon, deleteShim, type Invocation, startShim } from './shim-program.ts';
import { type CreateRequest, type Stdio, TaskClient } from './task-client.ts';

export const NAMESPACE = 'default';

export interface TaskOptions extends BundleOptions {
  id?: string;
  stdio?: Stdio;
  /** Standard input of the shim's `start`: an Any of the options. */
  startInput?: Uint8Array;
  /** Further fields of Create. */
  create?: Partial<NonNullable<CreateRequest>>;
  env?: NodeJS.ProcessEnv;
}

/** One root file system for all rigs of a test file; containers write to layers above it. */
let rootfs: string | undefined;
let count = 0;

export class Rig {
  readonly peer: Peer;
  readonly state: string;
  /** On a real disk. */
  readonly work: string;
  readonly daemon: Daemon;
  readonly events: EventRecorder;
  readonly #tasks: Task[] = [];
  readonly #logs: number[] = [];
  readonly #before: Leftovers;

  private constructor(peer: Peer) {
    rootfs ??= (() => {
      const directory = join(privateDir('rootfs'), 'root');
      makeRootfs(directory);
      return directory;
    })();
    this.peer = peer;
    this.work = privateDir('conformance');
    this.state = runDir('conformance');
    this.daemon = { address: `${this.state}/d.sock`, ttrpcAddress: `${this.state}/d.sock.ttrpc` };
    this.events = new EventRecorder(this.daemon.ttrpcAddress);
    this.#before = takeStock();
  }

  static async start(peer: Peer): Promise<Rig> {
    const rig = new Rig(peer);
    await rig.events.start();
    return rig;
  }

  /** The service name by which containerd would call a shim that answered this. */
  service({ version }: Address): string {
    return `containerd.task.v${version}.Task`;
  }

  /** Makes a bundle without starting a shim. */
  bundle(options: TaskOptions = {}): Invocation {
    count += 1;
    const id = options.id ?? `c${count}`;
    const bundle = makeBundle(this.state, NAMESPACE, id, options);
    // containerd holds it open before it starts a shim; its own shim waits there for a reader.
    this.#logs.push(openSync(join(bundle, 'log'), constants.O_RDWR | constants.O_NONBLOCK));
    return {
      peer: this.peer,
      daemon: this.daemon,
      namespace: NAMESPACE,
      id,
      bundle,
      ...(options.startInput ? { stdin: options.startInput } : {}),
      ...(options.env ? { env: options.env } : {}),
    };
  }

  /** Starts a shim (or finds its pod's) and connects; the container is not created. */
  async prepare(options: TaskOptions = {}): Promise<Task> {
    return this.adopt(this.bundle(options), options);
  }

  /** The same with a bundle that is there already; its shim may be running. */
  async adopt(invocation: Invocation, options: TaskOptions = {}): Promise<Task> {
    const address = await startShim(invocation);
    const client = await TaskClient.connect(address.path, this.service(address), invocation.id);
    const task = new Task(this, invocation, address, client, options);
    this.#tasks.push(task);
    task.shimPid = (await client.connect()).shimPid;
    return task;
  }

  async create(options: TaskOptions = {}): Promise<Task> {
    const task = await this.prepare(options);
    await task.create();
    return task;
  }

  /** A container whose process runs. */
  async run(options: TaskOptions | readonly string[] = {}): Promise<Task> {
    const task = await this.create(Array.isArray(options) ? { args: options } : (options as TaskOptions));
    await task.start();
    return task;
  }

  /** Ends every shim as containerd does after it lost one, and asserts that nothing is left. */
  async close(expected: RegExp[] = []): Promise<void> {
    for (const task of this.#tasks) await task.discard();
    // containerd's own shim leaves the socket of a server that was killed, and 2.1 also that of a pod whose first container
    // went before the last.
    if (this.peer.name === 'stock')
      for (const { address } of this.#tasks) rmSync(address.path, { force: true });
    await this.events.stop();
    for (const fd of this.#logs) closeSync(fd);
    rmSync(this.state, { recursive: true, force: true });
    rmSync(this.work, { recursive: true, force: true });
    await assertNothingLeft(this.#before, 10_000, expected);
  }

  overlay(id: string): NonNullable<NonNullable<CreateRequest>['rootfs']> {
    const [upper, work] = ['upper', 'work'].map((name) => join(this.work, id, name)) as [string, string];
    for (const directory of [upper, work]) mkdirSync(directory, { recursive: true });
    const options = [`lowerdir=${rootfs}`, `upperdir=${upper}`, `workdir=${work}`];
    return [{ type: 'overlay', source: 'overlay', options }];
  }

  /** What a container wrote, after it was deleted too. */
  upper(id: string): string {
    return join(this.work, id, 'upper');
  }
}

/** One container and the connection to its shim. */
export class Task {
  readonly invocation: Invocation;
  readonly address: Address;
  readonly client: TaskClient;
  readonly options: TaskOptions;
  shimPid = 0;
  pid = 0;
  readonly #rig: Rig;
  #gone = false;

  constructor(rig: Rig, invocation: Invocation, address: Address, client: TaskClient, options: TaskOptions) {
    this.#rig = rig;
    this.invocation = invocation;
    this.address = address;
    this.client = client;
    this.options = options;
  }

  get id(): string {
    return this.invocation.id;
  }
  get bundle(): string {
    return this.invocation.bundle;
  }
  /** Its events in short. */
  get events(): string[] {
    return this.#rig.events.of(this.id);
  }

  async create(more: Partial<NonNullable<CreateRequest>> = {}): Promise<number> {
    const { stdio = {}, create = {}, terminal = false } = this.options;
    const rootfs = this.#rig.overlay(this.id);
    this.pid = await this.client.create({
      bundle: this.bundle,
      rootfs,
      terminal,
      ...stdio,
      ...create,
      ...more,
    });
    return this.pid;
  }

  async start(): Promise<number> {
    this.pid = await this.client.start();
    return this.pid;
  }

  /** Adds and starts an exec; its pid. */
  async exec(execId: string, args: readonly string[], stdio: Stdio = {}, more: object = {}): Promise<number> {
    await this.client.exec(execId, processSpec(args, { terminal: stdio.terminal ?? false, ...more }), stdio);
    return this.client.start(execId);
  }

  until(event: string | RegExp, ms?: number): Promise<true> {
    return this.#rig.events.until(this.id, event, ms);
  }

  /** Kills, waits, deletes and shuts down, as `ctr task rm -f` does. */
  async remove(): Promise<void> {
    await this.#killAndDelete();
    await this.shutdown();
  }

  /**
   * As `remove`, and containerd has been told of all of it. Its own shim tells after it has answered, and never if it was shut
   * down in between.
   */
  async removeTold(): Promise<void> {
    await this.#killAndDelete();
    if (this.invocation.peer.name === 'stock') await this.until('delete');
    await this.shutdown();
    await this.until('delete');
  }

  async #killAndDelete(): Promise<void> {
    await this.client.kill(9, { all: true }).catch(() => {});
    await this.client.wait();
    await this.client.delete();
  }

  /** Shutdown, close, `delete`: what containerd does after every Delete. */
  async shutdown(): Promise<void> {
    await this.client.shutdown().catch((error: unknown) => {
      // The shim may close the connection before it has answered.
      if (describeError(error).code !== Code.unavailable) throw error;
    });
    this.client.close();
    await this.#delete();
  }

  /** What containerd does about a container whose shim is gone; the shim is ended first if it is not. */
  async discard(): Promise<void> {
    if (this.#gone) return;
    this.client.close();
    await this.killShim();
    await this.#delete();
  }

  async #delete(): Promise<void> {
    this.#gone = true;
    const { peer } = this.invocation;
    // containerd's own shim of 1.7 cannot clean up where Create never came: it misses the file "runtime".
    const mayFail =
      peer.name === 'stock' && peer.version === '1.7' && !existsSync(join(this.bundle, 'runtime'));
    const { code, stderr } = await deleteShim(this.invocation);
    if (code !== 0 && !mayFail)
      throw new TestError(Code.unknown, `${peer.name} delete ended with ${code}: ${stderr}`);
    // As containerd: the root file system must be unmounted and its folder empty.
    rmdirSync(join(this.bundle, 'rootfs'));
    rmSync(this.bundle, { recursive: true, force: true });
  }

  /** kill -9 of the server, and its disappearance. */
  async killShim(): Promise<void> {
    if (!alive(this.shimPid)) return;
    process.kill(this.shimPid, 'SIGKILL');
    await until('the shim to be gone', () => !alive(this.shimPid));
  }
}

export function alive(pid: number): boolean {
  // 0 would be our own process group.
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
