/** Events as containerd's bus knows them. Pure. */
import { containerd } from '../../proto/gen/shim.js';
import type { Mount } from '../task/start-plan.ts';
import { toTimestamp } from '../task/timestamp.ts';

const types = containerd.events;

export type TaskEvent =
  | {
      kind: 'create';
      containerId: string;
      bundle: string;
      rootfs: readonly Mount[];
      stdin: string;
      stdout: string;
      stderr: string;
      terminal: boolean;
      checkpoint: string;
      pid: number;
    }
  | { kind: 'start'; containerId: string; pid: number }
  /** `id` is the container's id for its init. Times are nanoseconds since 1970. */
  | { kind: 'exit'; containerId: string; id: string; pid: number; status: number; exitedAt: bigint }
  | { kind: 'delete'; containerId: string; pid: number; status: number; exitedAt: bigint }
  | { kind: 'exec-added'; containerId: string; execId: string }
  | { kind: 'exec-started'; containerId: string; execId: string; pid: number }
  | { kind: 'oom'; containerId: string }
  | { kind: 'paused'; containerId: string }
  | { kind: 'resumed'; containerId: string };

export interface EncodedEvent {
  topic: string;
  typeUrl: string;
  value: Uint8Array;
}

export function encodeEvent(event: TaskEvent): EncodedEvent {
  const topic = `/tasks/${event.kind}`;
  const { containerId } = event;
  const encoded = (name: string, writer: { finish(): Uint8Array }): EncodedEvent => ({
    topic,
    typeUrl: `containerd.events.${name}`,
    value: writer.finish(),
  });
  switch (event.kind) {
    case 'create': {
      const { bundle, checkpoint, pid, stdin, stdout, stderr, terminal } = event;
      const io = { stdin, stdout, stderr, terminal };
      const rootfs = event.rootfs.map((mount) => ({ ...mount }));
      return encoded(
        'TaskCreate',
        types.TaskCreate.encode({ containerId, bundle, rootfs, io, checkpoint, pid }),
      );
    }
    case 'start':
      return encoded('TaskStart', types.TaskStart.encode({ containerId, pid: event.pid }));
    case 'exit':
      return encoded(
        'TaskExit',
        types.TaskExit.encode({
          containerId,
          id: event.id,
          pid: event.pid,
          exitStatus: event.status,
          exitedAt: toTimestamp(event.exitedAt),
        }),
      );
    case 'delete':
      return encoded(
        'TaskDelete',
        types.TaskDelete.encode({
          containerId,
          pid: event.pid,
          exitStatus: event.status,
          exitedAt: toTimestamp(event.exitedAt),
        }),
      );
    case 'exec-added':
      return encoded('TaskExecAdded', types.TaskExecAdded.encode({ containerId, execId: event.execId }));
    case 'exec-started':
      return encoded(
        'TaskExecStarted',
        types.TaskExecStarted.encode({ containerId, execId: event.execId, pid: event.pid }),
      );
    case 'oom':
      return encoded('TaskOOM', types.TaskOOM.encode({ containerId }));
    case 'paused':
      return encoded('TaskPaused', types.TaskPaused.encode({ containerId }));
    case 'resumed':
      return encoded('TaskResumed', types.TaskResumed.encode({ containerId }));
  }
}

/** Content of a Forward request. */
export function encodeForward(event: EncodedEvent, namespace: string, at: bigint): Uint8Array {
  return containerd.services.events.ttrpc.v1.ForwardRequest.encode({
    envelope: {
      timestamp: toTimestamp(at),
      namespace,
      topic: event.topic,
      event: { type_url: event.typeUrl, value: event.value },
    },
  }).finish();
}
