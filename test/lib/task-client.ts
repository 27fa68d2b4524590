/** A client of containerd's task service that brings its own streams, as the kubelet's and ctr's clients do. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Caller, serviceMethods } from '../../cli/containerd/caller.ts';
import { Connection } from '../../cli/containerd/channel.ts';
import { createContainerd } from '../../cli/containerd/index.ts';
import { containerd as api } from '../../proto/gen/shim.js';
import { until } from './wait.ts';

const { call } = serviceMethods('tasks/v1/tasks.proto', 'containerd.services.tasks.v1.Tasks');
const PROCESS_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Process';
const OPTIONS_TYPE = 'containerd.runc.v1.Options';

export interface TaskStdio {
  stdin?: string;
  stdout?: string;
  stderr?: string;
  terminal?: boolean;
}

export interface TaskProcessState {
  pid: number;
  status: string;
  terminal: boolean;
  stdout: string;
  exitStatus: number;
}

export class TaskClient {
  readonly #connection: Connection;
  readonly #caller: Caller;

  constructor(address: string) {
    this.#connection = new Connection(address);
    this.#caller = { connection: this.#connection, scope: { namespace: 'default' }, signal: undefined };
  }

  close(): void {
    this.#connection.close();
  }

  /** Of a container that `ctr container create` made. */
  async create(
    containerId: string,
    stdio: TaskStdio,
    options?: Parameters<typeof api.runc.v1.Options.encode>[0],
  ): Promise<number> {
    const client = await createContainerd({
      address: this.#connection.address,
      namespace: this.#caller.scope.namespace,
    });
    try {
      const { snapshotter, snapshotKey } = await client.containers.get(containerId);
      const rootfs = await client.snapshots(snapshotter).mounts(snapshotKey);
      const any = options && {
        type_url: OPTIONS_TYPE,
        value: Buffer.from(api.runc.v1.Options.encode(options).finish()),
      };
      const request = { containerId, rootfs, ...stdio, ...(any ? { options: any } : {}) };
      return (await this.#call<{ pid: number }>('Create', request)).pid;
    } finally {
      client.close();
    }
  }

  async exec(containerId: string, execId: string, args: string[], stdio: TaskStdio): Promise<void> {
    const process = {
      args,
      cwd: '/',
      env: ['PATH=/bin:/sbin:/usr/bin', 'TERM=xterm'],
      user: { uid: 0, gid: 0 },
      terminal: stdio.terminal ?? false,
    };
    await this.execSpec(containerId, execId, process, stdio);
  }

  /** `process` is a Process of the OCI runtime specification. */
  async execSpec(containerId: string, execId: string, process: object, stdio: TaskStdio): Promise<void> {
    const spec = { type_url: PROCESS_TYPE, value: Buffer.from(JSON.stringify(process)) };
    await this.#call('Exec', { containerId, execId, spec, ...stdio });
  }

  start(containerId: string, execId = ''): Promise<unknown> {
    return this.#call('Start', { containerId, execId });
  }

  resize(containerId: string, execId: string, width: number, height: number): Promise<unknown> {
    return this.#call('ResizePty', { containerId, execId, width, height });
  }

  closeStdin(containerId: string, execId = ''): Promise<unknown> {
    return this.#call('CloseIO', { containerId, execId, stdin: true });
  }

  kill(containerId: string, execId = '', signal = 9): Promise<unknown> {
    return this.#call('Kill', { containerId, execId, signal });
  }

  async state(containerId: string, execId = ''): Promise<TaskProcessState> {
    return (await this.#call<{ process: TaskProcessState }>('Get', { containerId, execId })).process;
  }

  async wait(containerId: string, execId = ''): Promise<number> {
    return (await this.#call<{ exitStatus: number }>('Wait', { containerId, execId })).exitStatus;
  }

  delete(containerId: string, execId = ''): Promise<unknown> {
    return execId
      ? this.#call('DeleteProcess', { containerId, execId })
      : this.#call('Delete', { containerId });
  }

  #call<Response>(method: string, request: object): Promise<Response> {
    return call<Response>(this.#caller, method, request, { action: method, deadlineMs: 40_000 });
  }
}

/** The client's ends of a process's fifos: programs, so that one can go away as a client does. */
export class ClientStreams {
  readonly paths: { stdin: string; stdout: string; stderr: string };
  readonly #children: ChildProcess[] = [];

  constructor(dir: string) {
    mkdirSync(dir, { recursive: true });
    this.paths = { stdin: join(dir, 'stdin'), stdout: join(dir, 'stdout'), stderr: join(dir, 'stderr') };
    execFileSync('mkfifo', Object.values(this.paths));
  }

  read(stream: 'stdout' | 'stderr'): ClientReader {
    const child = spawn('cat', [this.paths[stream]], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(child);
    return new ClientReader(child);
  }

  write(): ClientWriter {
    const child = spawn('sh', ['-c', 'exec cat >"$0"', this.paths.stdin], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    this.#children.push(child);
    return new ClientWriter(child);
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await Promise.all(
      this.#children.map((child) => child.exitCode ?? child.signalCode ?? once(child, 'exit')),
    );
  }
}

export class ClientReader {
  text = '';
  ended = false;
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding('latin1').on('data', (part: string) => {
      this.text += part;
    });
    child.stdout?.on('end', () => {
      this.ended = true;
    });
  }

  /** Waits until what was read matches. */
  async until(pattern: RegExp): Promise<void> {
    await until(`${pattern} to be read`, async () => pattern.test(this.text));
  }

  /** Waits for the end of the stream. */
  async end(): Promise<string> {
    await until('the stream to end', async () => this.ended);
    return this.text;
  }

  async vanish(): Promise<void> {
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}

export class ClientWriter {
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    this.#child = child;
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** Closes the client's end of the fifo. */
  async end(): Promise<void> {
    this.#child.stdin?.end();
    await once(this.#child, 'exit');
  }
}
