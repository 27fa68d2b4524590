import { type Caller, serviceMethods } from './caller.ts';
import { messageType } from './protos.ts';

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
function optionsAny(options: CheckpointOptions): { type_url: string; value: Buffer } {
  const type = messageType('tasks/v1/options.proto', CHECKPOINT_OPTIONS_TYPE);
  // protobufjs brings its own google.protobuf.Any, whose field keeps this name.
  return { type_url: CHECKPOINT_OPTIONS_TYPE, value: type.serialize(options) };
}

export function tasks(caller: Caller) {
  return {
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
