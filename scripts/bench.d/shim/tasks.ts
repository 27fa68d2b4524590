/**
 * The calls that start, watch and end processes, on one gRPC connection for everything that is measured: the client's
 * part is the same for both shims and much smaller than theirs.
 */
import { type Caller, serviceMethods } from '../../../cli/containerd/caller.ts';
import { Connection } from '../../../cli/containerd/channel.ts';
import type { Mount } from '../../../cli/containerd/index.ts';

const { call } = serviceMethods('tasks/v1/tasks.proto', 'containerd.services.tasks.v1.Tasks');

/** Type URL of an exec's spec; source: typeurl registrations of containerd's client (client/client.go). */
const PROCESS_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Process';

/** Paths of fifos; an empty one means none. */
export interface Stdio {
  stdin: string;
  stdout: string;
  stderr: string;
}

export class Tasks {
  readonly #connection: Connection;
  readonly #caller: Caller;

  constructor(address: string) {
    this.#connection = new Connection(address);
    this.#caller = { connection: this.#connection, scope: { namespace: 'default' }, signal: undefined };
  }

  close(): void {
    this.#connection.close();
  }

  /** The pid of the container's init. */
  async create(containerId: string, rootfs: readonly Mount[], stdio: Stdio): Promise<number> {
    const request = { containerId, rootfs, ...stdio };
    const action = `create the task ${containerId}`;
    return (await call<{ pid: number }>(this.#caller, 'Create', request, { action })).pid;
  }

  async start(containerId: string, execId = ''): Promise<void> {
    await call(
      this.#caller,
      'Start',
      { containerId, execId },
      { action: `start ${name(containerId, execId)}` },
    );
  }

  /** The exit status. Asked before the start, as containerd's own client does. */
  async wait(containerId: string, execId = ''): Promise<number> {
    const action = `wait for the end of ${name(containerId, execId)}`;
    const request = { containerId, execId };
    return (await call<{ exitStatus: number }>(this.#caller, 'Wait', request, { action })).exitStatus;
  }

  async kill(containerId: string): Promise<void> {
    await call(this.#caller, 'Kill', { containerId, signal: 9 }, { action: `kill ${containerId}` });
  }

  async delete(containerId: string): Promise<void> {
    await call(this.#caller, 'Delete', { containerId }, { action: `delete the task ${containerId}` });
  }

  /** `process` is a Process of the OCI runtime specification. */
  async exec(containerId: string, execId: string, process: object, stdio: Stdio): Promise<void> {
    const spec = { type_url: PROCESS_TYPE, value: Buffer.from(JSON.stringify(process)) };
    const action = `add ${name(containerId, execId)}`;
    await call(this.#caller, 'Exec', { containerId, execId, spec, ...stdio }, { action });
  }

  async deleteExec(containerId: string, execId: string): Promise<void> {
    const action = `delete ${name(containerId, execId)}`;
    await call(this.#caller, 'DeleteProcess', { containerId, execId }, { action });
  }
}

function name(containerId: string, execId: string): string {
  return execId === '' ? containerId : `${execId} in ${containerId}`;
}
