/** The task service of one container, as containerd calls it. */
import { containerd as api } from '../../../proto/gen/shim.js';
import { TtrpcClient } from '../../../proto/ttrpc/index.ts';

const { task } = api;

export type Any = { type_url: string; value: Uint8Array };
export type CreateRequest = Parameters<typeof task.v2.CreateTaskRequest.encode>[0];
export type StatusName = 'UNKNOWN' | 'CREATED' | 'RUNNING' | 'STOPPED' | 'PAUSED' | 'PAUSING';

export interface Stdio {
  stdin?: string;
  stdout?: string;
  stderr?: string;
  terminal?: boolean;
}

export const PROCESS_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Process';
const RESOURCES_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources';
const NAMES: readonly StatusName[] = ['UNKNOWN', 'CREATED', 'RUNNING', 'STOPPED', 'PAUSED', 'PAUSING'];
const Empty = {
  encode: () => ({ finish: () => new Uint8Array() }),
  decode: () => ({}),
};

/** containerd's own calls carry a caller's deadline; this one is longer than any answer may take. */
const DEADLINE_MS = 20_000;

/** Options of a task as containerd's clients send them. */
export function runcOptions(options: Parameters<typeof api.runc.v1.Options.encode>[0]): Any {
  return { type_url: 'containerd.runc.v1.Options', value: api.runc.v1.Options.encode(options).finish() };
}

export class TaskClient {
  readonly id: string;
  readonly service: string;
  readonly #client: TtrpcClient;

  constructor(client: TtrpcClient, service: string, id: string) {
    this.#client = client;
    this.service = service;
    this.id = id;
  }

  static async connect(path: string, service: string, id: string): Promise<TaskClient> {
    return new TaskClient(await TtrpcClient.connect(path, 5000), service, id);
  }

  get closed(): Promise<void> {
    return this.#client.closed;
  }

  close(): void {
    this.#client.close();
  }

  /** The same connection for another container of the pod. */
  about(id: string, service = this.service): TaskClient {
    return new TaskClient(this.#client, service, id);
  }

  call(
    method: string,
    payload: Uint8Array,
    timeoutMs = DEADLINE_MS,
    service = this.service,
  ): Promise<Uint8Array> {
    const metadata = { 'containerd-namespace-ttrpc': ['default'] };
    return this.#client.call(service, method, payload, { timeoutMs, metadata });
  }

  async #unary<Request, Response>(
    method: string,
    request: { encode(message: Request): { finish(): Uint8Array } },
    response: { decode(bytes: Uint8Array): Response },
    message: Request,
    timeoutMs?: number,
  ): Promise<Response> {
    return response.decode(await this.call(method, request.encode(message).finish(), timeoutMs));
  }

  async state(execId = '', timeoutMs?: number) {
    const { StateRequest, StateResponse } = task.v2;
    const answer = await this.#unary(
      'State',
      StateRequest,
      StateResponse,
      { id: this.id, execId },
      timeoutMs,
    );
    // Fields without a value lie on the prototype, where a spread does not find them.
    const { id, bundle, pid, stdin, stdout, stderr, terminal, exitStatus } = answer;
    return {
      ...{ id, bundle, pid, stdin, stdout, stderr, terminal, exitStatus },
      execId: answer.execId,
      status: NAMES[answer.status] ?? 'UNKNOWN',
      exitedAt: Number(answer.exitedAt?.seconds ?? 0),
    };
  }

  async status(execId = ''): Promise<StatusName> {
    return (await this.state(execId)).status;
  }

  async create(request: CreateRequest): Promise<number> {
    const { CreateTaskRequest, CreateTaskResponse } = task.v2;
    return (await this.#unary('Create', CreateTaskRequest, CreateTaskResponse, { id: this.id, ...request }))
      .pid;
  }

  async start(execId = ''): Promise<number> {
    const { StartRequest, StartResponse } = task.v2;
    return (await this.#unary('Start', StartRequest, StartResponse, { id: this.id, execId })).pid;
  }

  async delete(execId = '', timeoutMs?: number) {
    const { DeleteRequest, DeleteResponse } = task.v2;
    const answer = await this.#unary(
      'Delete',
      DeleteRequest,
      DeleteResponse,
      { id: this.id, execId },
      timeoutMs,
    );
    return {
      pid: answer.pid,
      exitStatus: answer.exitStatus,
      exitedAt: Number(answer.exitedAt?.seconds ?? 0),
    };
  }

  /** Pid to exec id; empty for what is no exec. */
  async pids(): Promise<Map<number, string>> {
    const { PidsRequest, PidsResponse } = task.v2;
    const { processes } = await this.#unary('Pids', PidsRequest, PidsResponse, { id: this.id });
    return new Map(
      processes.map(({ pid, info }) => [
        pid ?? 0,
        info?.value ? api.runc.v1.ProcessDetails.decode(info.value).execId : '',
      ]),
    );
  }

  async pause(): Promise<void> {
    await this.#unary('Pause', task.v2.PauseRequest, Empty, { id: this.id });
  }

  async resume(): Promise<void> {
    await this.#unary('Resume', task.v2.ResumeRequest, Empty, { id: this.id });
  }

  async checkpoint(path: string, options?: Any): Promise<void> {
    const message = { id: this.id, path, ...(options ? { options } : {}) };
    await this.#unary('Checkpoint', task.v2.CheckpointTaskRequest, Empty, message);
  }

  async kill(signal: number, { execId = '', all = false, timeoutMs = DEADLINE_MS } = {}): Promise<void> {
    await this.#unary('Kill', task.v2.KillRequest, Empty, { id: this.id, execId, signal, all }, timeoutMs);
  }

  /** `process` is the JSON of an OCI process. */
  async exec(execId: string, process: object | undefined, stdio: Stdio = {}): Promise<void> {
    const spec = process && { type_url: PROCESS_TYPE, value: Buffer.from(JSON.stringify(process)) };
    const message = { id: this.id, execId, ...stdio, ...(spec ? { spec } : {}) };
    await this.#unary('Exec', task.v2.ExecProcessRequest, Empty, message);
  }

  async resizePty(width: number, height: number, execId = ''): Promise<void> {
    await this.#unary('ResizePty', task.v2.ResizePtyRequest, Empty, { id: this.id, execId, width, height });
  }

  async closeIo(execId = '', stdin = true): Promise<void> {
    await this.#unary('CloseIO', task.v2.CloseIORequest, Empty, { id: this.id, execId, stdin });
  }

  async update(resources: object, annotations: Record<string, string> = {}): Promise<void> {
    const any = { type_url: RESOURCES_TYPE, value: Buffer.from(JSON.stringify(resources)) };
    await this.#unary('Update', task.v2.UpdateTaskRequest, Empty, {
      id: this.id,
      resources: any,
      annotations,
    });
  }

  async wait(execId = '', timeoutMs?: number): Promise<number> {
    const { WaitRequest, WaitResponse } = task.v2;
    return (await this.#unary('Wait', WaitRequest, WaitResponse, { id: this.id, execId }, timeoutMs))
      .exitStatus;
  }

  /** The statistics' type and bytes. */
  async stats(): Promise<Any> {
    const { StatsRequest, StatsResponse } = task.v2;
    const { stats } = await this.#unary('Stats', StatsRequest, StatsResponse, { id: this.id });
    return { type_url: stats?.type_url ?? '', value: stats?.value ?? new Uint8Array() };
  }

  async connect() {
    const { ConnectRequest, ConnectResponse } = task.v2;
    const { shimPid, taskPid } = await this.#unary('Connect', ConnectRequest, ConnectResponse, {
      id: this.id,
    });
    return { shimPid, taskPid };
  }

  async shutdown(now = false): Promise<void> {
    await this.#unary('Shutdown', task.v2.ShutdownRequest, Empty, { id: this.id, now });
  }
}
