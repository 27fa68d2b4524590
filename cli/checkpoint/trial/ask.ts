/** Asks a trial its probe, once. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { Socket } from 'node:net';
import type { Addon } from '../../../native/index.ts';
import { describeError } from '../../../proto/status.ts';
import type { Containerd } from '../../containerd/index.ts';
import type { Probe } from './probe.ts';

/** For one answer; a server that has just been restored brings memory here meanwhile. */
const ANSWER_MS = 10_000;

export interface Asked {
  containerd: Containerd;
  id: string;
  /** Of its first process. */
  pid: number;
  /** The OCI process of its spec. */
  process: object;
  calls: Pick<Addon, 'connectInNamespace'>;
}

/** Undefined if it answers as it should, else what was wrong. */
export async function ask(probe: Probe, asked: Asked): Promise<string | undefined> {
  try {
    switch (probe.kind) {
      case 'tcp':
        connectTo(probe.port, asked).destroy();
        return undefined;
      case 'http':
        return await askHttp(probe, asked);
      case 'exec':
        return await askExec(probe.args, asked, ANSWER_MS);
    }
  } catch (error) {
    return describeError(error).message;
  }
}

/** Its loopback, in its own network. */
export function connectTo(port: number, { pid, calls }: Pick<Asked, 'pid' | 'calls'>): Socket {
  return new Socket({ fd: calls.connectInNamespace(`/proc/${pid}/ns/net`, port) });
}

async function askHttp(
  { port, path }: Extract<Probe, { kind: 'http' }>,
  asked: Asked,
): Promise<string | undefined> {
  const socket = connectTo(port, asked);
  try {
    const asking = request({
      createConnection: () => socket,
      host: 'localhost',
      path,
      headers: { connection: 'close' },
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    asking.end();
    const [answer] = await once(asking, 'response');
    answer.resume();
    const status: number = answer.statusCode;
    // As the kubelet's probes have it.
    return status >= 200 && status < 400 ? undefined : `it answered ${status}`;
  } finally {
    socket.destroy();
  }
}

/** Undefined if the command ends with 0. */
export async function askExec(
  args: readonly string[],
  asked: Omit<Asked, 'pid' | 'calls'>,
  deadlineMs: number,
): Promise<string | undefined> {
  const execId = `probe-${randomBytes(4).toString('hex')}`;
  const process = { ...asked.process, args, terminal: false };
  const status = await asked.containerd.tasks.exec(asked.id, execId, process, deadlineMs);
  return status === 0 ? undefined : `${args[0]} ended with ${status}`;
}
