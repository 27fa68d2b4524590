/** What a container is asked before it is saved, so that it is warm. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { Code, describeError } from '../../proto/status.ts';
import { askExec, connectTo } from '../checkpoint/trial/ask.ts';
import { checkInterrupted } from '../cleanup.ts';
import { CliError } from '../error.ts';
import { printable } from '../ui/format.ts';
import { checkRunning, type Watched } from './condition.ts';
import type { WarmUp, WarmUpRequest } from './spec.ts';

/** How much of a wrong answer is shown. */
const SHOWN_BYTES = 200;

export function countOf(warmUps: readonly WarmUp[]): number {
  return warmUps.reduce((sum, { times }) => sum + times, 0);
}

/** One after the other, as they are written. */
export async function warmUp(warmUps: readonly WarmUp[], watched: Watched): Promise<void> {
  for (const [at, { http, exec, times, timeout_s }] of warmUps.entries()) {
    for (let i = 0; i < times; i++) {
      checkInterrupted(watched.signal);
      const wrong = await attempt(async () => {
        if (http) return send(http, watched, timeout_s * 1000);
        return exec && askExec(exec, watched, timeout_s * 1000);
      });
      checkInterrupted(watched.signal);
      if (wrong !== undefined) {
        await checkRunning(watched);
        throw new CliError(
          Code.failedPrecondition,
          `Cannot warm the container up: warm_up ${at + 1} (${describe(http, exec)}): ${printable(wrong)}`,
        );
      }
    }
  }
}

async function attempt(work: () => Promise<string | undefined>): Promise<string | undefined> {
  try {
    return await work();
  } catch (error) {
    return describeError(error).message;
  }
}

function describe(http: WarmUpRequest | undefined, exec: readonly string[] | undefined): string {
  return http ? `${http.method} :${http.port}${http.path}` : `exec ${exec?.[0] ?? ''}`;
}

/** Undefined if it was answered as it should be. All of the answer is read: a streaming one is warm at its end only. */
async function send(wanted: WarmUpRequest, watched: Watched, timeoutMs: number): Promise<string | undefined> {
  const { port, path, method, headers, body, status } = wanted;
  const socket = connectTo(port, watched);
  try {
    const asking = request({
      createConnection: () => socket,
      host: 'localhost',
      path,
      method,
      headers: {
        ...headers,
        connection: 'close',
        ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }),
      },
      signal: AbortSignal.any([watched.signal, AbortSignal.timeout(timeoutMs)]),
    });
    asking.end(body);
    const [answer] = (await once(asking, 'response')) as [IncomingMessage];
    let said = '';
    for await (const part of answer) if (said.length < SHOWN_BYTES) said += String(part);
    const got = answer.statusCode ?? 0;
    if (status === undefined ? got >= 200 && got < 400 : got === status) return undefined;
    return `it was answered with ${got}: ${said.slice(0, SHOWN_BYTES)}`;
  } finally {
    socket.destroy();
  }
}
