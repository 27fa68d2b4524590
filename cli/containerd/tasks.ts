import { type Caller, serviceMethods } from './caller.ts';
import { messageType } from './protos.ts';
import type { AnyMessage, Mount } from './types.ts';

const { call } = serviceMethods('tasks/v1/tasks.proto', 'containerd.services.tasks.v1.Tasks');

/** Names of containerd.v1.types.Status. */
export type TaskStatus = 'UNKNOWN' | 'CREATED' | 'RUNNING' | 'STOPPED' | 'PAUSED' | 'PAUSING';

export interface TaskState {
  pid: number;
  status: TaskStatus;
  exitStatus: number;
}

/** containerd.runc.v1.CheckpointOptions, as far as it is set here. */
export interface CheckpointOptions {
  exit: boolean;
  openTcp: boolean;
  externalUnixSockets: boolean;
  fileLocks: boolean;
  imagePath: string;
  workPath: string;
}

export const CHECKPOINT_OPTIONS_TYPE = 'containerd.runc.v1.CheckpointOptions';

/** A dump writes the container's memory to disk; its deadline grows with nothing we know beforehand. */
const CHECKPOINT_DEADLINE_MS = 30 * 60_000;

/**
 * Type URLs of containerd are bare proto names, without a host. containerd 2.x refuses options of any other type, and
 * 1.7 reads image_path from them only where the runtime's name begins with io.containerd.runc; otherwise it tars the
 * dump into its content store.
 */
function optionsAny(options: CheckpointOptions): AnyMessage {
  const type = messageType('tasks/v1/options.proto', CHECKPOINT_OPTIONS_TYPE);
  // protobufjs brings its own google.protobuf.Any, whose field keeps this name.
  return { type_url: CHECKPOINT_OPTIONS_TYPE, value: type.serialize(options) };
}

/** Of a process without a terminal, with /dev/null for its streams. Source: the OCI runtime specification. */
const PROCESS_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Process';
/** A restore in the shim takes 90 s at most. */
const START_DEADLINE_MS = 150_000;

export function tasks(caller: Caller) {
  return {
    /**
     * Streams are /dev/null, but for an `output` that both are written to, which is an URI that the shim understands.
     * `runtimePath` names the shim's program where the runtime's name does not.
     */
    async create(
      containerId: string,
      task: {
        rootfs: Mount[];
        options?: AnyMessage | undefined;
        runtimePath?: string | undefined;
        output?: string;
      },
    ): Promise<void> {
      const { rootfs, options, runtimePath = '', output = '' } = task;
      const streams = { stdout: output, stderr: output };
      const request = { containerId, rootfs, runtimePath, ...streams, ...(options ? { options } : {}) };
      await call(caller, 'Create', request, { action: `create ${containerId}`, deadlineMs: 60_000 });
    },
    async start(containerId: string): Promise<number> {
      const options = { action: `start ${containerId}`, deadlineMs: START_DEADLINE_MS };
      return (await call<{ pid: number }>(caller, 'Start', { containerId }, options)).pid;
    },
    async delete(containerId: string): Promise<void> {
      await call(caller, 'Delete', { containerId }, { action: `delete ${containerId}`, deadlineMs: 60_000 });
    },
    /** Runs a process of the OCI runtime specification in the container; returns its exit status. */
    async exec(containerId: string, execId: string, process: object, deadlineMs: number): Promise<number> {
      const action = `run a command in ${containerId}`;
      const spec = { type_url: PROCESS_TYPE, value: Buffer.from(JSON.stringify(process)) };
      const named = { containerId, execId };
      await call(caller, 'Exec', { ...named, spec }, { action });
      try {
        await call(caller, 'Start', named, { action });
        return (await call<{ exitStatus: number }>(caller, 'Wait', named, { action, deadlineMs })).exitStatus;
      } finally {
        await call(caller, 'Kill', { ...named, signal: 9 }, { action }).catch(() => undefined);
        await call(caller, 'DeleteProcess', named, { action }).catch(() => undefined);
      }
    },
    async get(containerId: string): Promise<TaskState> {
      const answer = await call<{ process: TaskState }>(
        caller,
        'Get',
        { containerId },
        { action: `read the state of ${containerId}` },
      );
      const { pid, status, exitStatus } = answer.process;
      return { pid, status, exitStatus };
    },
    /** Ids of all its processes, execs included, as containerd sees them. */
    async pids(containerId: string): Promise<number[]> {
      const answer = await call<{ processes: { pid: number }[] }>(
        caller,
        'ListPids',
        { containerId },
        { action: `list the processes of ${containerId}` },
      );
      return answer.processes.map(({ pid }) => pid);
    },
    async pause(containerId: string): Promise<void> {
      await call(caller, 'Pause', { containerId }, { action: `pause ${containerId}`, deadlineMs: 60_000 });
    },
    async resume(containerId: string): Promise<void> {
      await call(caller, 'Resume', { containerId }, { action: `resume ${containerId}`, deadlineMs: 60_000 });
    },
    async kill(containerId: string, signal: number, options: { all?: boolean } = {}): Promise<void> {
      const request = { containerId, signal, all: options.all ?? false };
      await call(caller, 'Kill', request, { action: `kill ${containerId}`, deadlineMs: 60_000 });
    },
    async wait(containerId: string, deadlineMs: number): Promise<number> {
      const answer = await call<{ exitStatus: number }>(
        caller,
        'Wait',
        { containerId },
        { action: `wait for the end of ${containerId}`, deadlineMs },
      );
      return answer.exitStatus;
    },
    async checkpoint(containerId: string, options: CheckpointOptions): Promise<void> {
      await call(
        caller,
        'Checkpoint',
        { containerId, options: optionsAny(options) },
        { action: `dump ${containerId}`, deadlineMs: CHECKPOINT_DEADLINE_MS },
      );
    },
  };
}
