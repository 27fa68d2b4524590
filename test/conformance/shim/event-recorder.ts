/** The events endpoint of a pretended containerd: records what shims forward, in the order in which it arrives. */
import { rmSync } from 'node:fs';
import { containerd as api } from '../../../proto/gen/shim.js';
import { Code } from '../../../proto/status.ts';
import { type Handler, type Metadata, TtrpcError, TtrpcServer } from '../../../proto/ttrpc/index.ts';
import { sleep, until } from '../../lib/index.ts';

const { events } = api;
const { ForwardRequest } = api.services.events.ttrpc.v1;

export interface RecordedEvent {
  topic: string;
  /** Of the envelope. */
  namespace: string;
  /** What the call carried beside its message. */
  metadata: Metadata;
  type: string;
  timestampSeconds: number;
  containerId: string;
  /** The exec's id; of an exit also the container's where its init ended. */
  processId: string;
  pid: number;
  exitStatus: number;
}

/** What the endpoint does with the next events instead of recording them. */
export type Mood = { kind: 'well' } | { kind: 'failing' } | { kind: 'slow'; ms: number };

export class EventRecorder {
  readonly path: string;
  readonly seen: RecordedEvent[] = [];
  mood: Mood = { kind: 'well' };
  #server: TtrpcServer | undefined;

  constructor(path: string) {
    this.path = path;
  }

  /** Begins to answer; also again after `stop`. */
  async start(): Promise<void> {
    const forward: Handler = async (payload, { metadata }) => {
      const { mood } = this;
      if (mood.kind === 'failing') throw new TtrpcError(Code.unavailable, 'containerd is not well');
      if (mood.kind === 'slow') await sleep(mood.ms);
      this.seen.push(decode(payload, metadata));
      return new Uint8Array();
    };
    this.#server = new TtrpcServer({
      services: { 'containerd.services.events.ttrpc.v1.Events': { Forward: forward } },
    });
    await this.#server.listen({ path: this.path });
  }

  /** As when containerd dies: connections close, and the socket refuses. */
  async stop(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
    rmSync(this.path, { force: true });
  }

  /** Events of one container in short: topics without "/tasks/", exits with process and status. */
  of(containerId: string): string[] {
    return this.seen
      .filter((event) => event.containerId === containerId)
      .map(({ topic, processId, exitStatus }) => {
        const name = topic.replace('/tasks/', '');
        if (name === 'exit') return `exit ${processId} ${exitStatus}`;
        return processId ? `${name} ${processId}` : name;
      });
  }

  /** Waits until an event is there whose short form is `event`. */
  until(containerId: string, event: string | RegExp, ms = 10_000): Promise<true> {
    const is = (seen: string) => (typeof event === 'string' ? seen === event : event.test(seen));
    return until(
      `the event "${event}" of ${containerId} among ${this.of(containerId)}`,
      () => this.of(containerId).some(is) || undefined,
      ms,
    );
  }
}

function decode(payload: Uint8Array, metadata: Metadata): RecordedEvent {
  const { envelope } = ForwardRequest.decode(payload);
  const type = envelope?.event?.type_url ?? '';
  const value = envelope?.event?.value ?? new Uint8Array();
  const about = (fields: Partial<RecordedEvent>): RecordedEvent => ({
    topic: envelope?.topic ?? '',
    namespace: envelope?.namespace ?? '',
    metadata,
    type,
    timestampSeconds: Number(envelope?.timestamp?.seconds ?? 0),
    containerId: '',
    processId: '',
    pid: 0,
    exitStatus: 0,
    ...fields,
  });
  switch (type.replace('containerd.events.', '')) {
    case 'TaskCreate':
      return about(events.TaskCreate.decode(value));
    case 'TaskStart':
      return about(events.TaskStart.decode(value));
    case 'TaskExit': {
      const { containerId, id, pid, exitStatus } = events.TaskExit.decode(value);
      return about({ containerId, processId: id, pid, exitStatus });
    }
    case 'TaskDelete': {
      const { containerId, id, pid, exitStatus } = events.TaskDelete.decode(value);
      return about({ containerId, processId: id, pid, exitStatus });
    }
    case 'TaskExecAdded': {
      const { containerId, execId } = events.TaskExecAdded.decode(value);
      return about({ containerId, processId: execId });
    }
    case 'TaskExecStarted': {
      const { containerId, execId, pid } = events.TaskExecStarted.decode(value);
      return about({ containerId, processId: execId, pid });
    }
    case 'TaskOOM':
      return about(events.TaskOOM.decode(value));
    case 'TaskPaused':
      return about(events.TaskPaused.decode(value));
    case 'TaskResumed':
      return about(events.TaskResumed.decode(value));
    default:
      return about({});
  }
}
