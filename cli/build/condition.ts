/** Looks whether what is waited for has come, and waits for it. */
import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Addon } from '../../native/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import { type Asked, ask } from '../checkpoint/trial/ask.ts';
import { checkInterrupted } from '../cleanup.ts';
import { CliError } from '../error.ts';
import { printable } from '../ui/format.ts';
import type { LogWatch } from './log-watch.ts';
import type { Condition } from './spec.ts';

const AGAIN_MS = 100;
/** open(2): names what it is, and opens neither a socket nor a fifo. */
const O_PATH = 0o10000000;

export interface Watched extends Asked {
  /** Whether its process still runs, and its exit status if not. */
  state(): Promise<{ running: boolean; exitStatus: number }>;
  signal: AbortSignal;
  log: LogWatch;
  calls: Pick<Addon, 'connectInNamespace' | 'openBeneath'>;
}

/** Undefined if it has come, else what was seen instead. */
async function look(condition: Condition, watched: Watched): Promise<string | undefined> {
  const { http, tcp, exec, file, log_line } = condition;
  if (http) return ask({ kind: 'http', ...http }, watched);
  if (tcp) return ask({ kind: 'tcp', ...tcp }, watched);
  if (exec) return ask({ kind: 'exec', args: exec }, watched);
  if (file !== undefined) return lookForFile(file, watched);
  if (log_line === undefined) return 'it is not known what to wait for';
  return (await watched.log.matches(new RegExp(log_line))) ? undefined : `no line matches /${log_line}/`;
}

/** No link is followed: in a container's root it could lead out of it. */
function lookForFile(path: string, { pid, calls }: Watched): string | undefined {
  try {
    closeSync(calls.openBeneath(`/proc/${pid}/root`, path.replace(/^\/+/, ''), O_PATH, 0));
    return undefined;
  } catch (error) {
    const { context } = describeError(error);
    return context.errno === 'ELOOP'
      ? `a link leads to ${path}; name where it really lies`
      : `there is no ${path}`;
  }
}

/** `what` completes "… did not … within 3 s". Rejects where the process ends meanwhile, or when the time is over. */
export async function waitFor(
  condition: Condition,
  watched: Watched,
  what: string,
  timeoutS: number,
): Promise<void> {
  const began = performance.now();
  for (;;) {
    const wrong = await look(condition, watched);
    checkInterrupted(watched.signal);
    if (wrong === undefined) return;
    await checkRunning(watched);
    if (performance.now() - began >= timeoutS * 1000)
      throw new CliError(
        Code.deadlineExceeded,
        `The container ${what} within ${timeoutS} s: ${printable(wrong)}${await lastWords(watched.log)}`,
      );
    await sleep(AGAIN_MS, undefined, { signal: watched.signal }).catch(() => undefined);
  }
}

/** Rejects with its last words if the process has ended. */
export async function checkRunning(watched: Watched): Promise<void> {
  const { running, exitStatus } = await watched.state();
  if (running) return;
  throw new CliError(
    Code.failedPrecondition,
    `The container ended with status ${exitStatus}${await lastWords(watched.log)}`,
  );
}

async function lastWords(log: LogWatch): Promise<string> {
  const lines = await log.tail();
  return lines.length === 0 ? '' : `; the last it said: ${lines.map(printable).join(' | ')}`;
}
