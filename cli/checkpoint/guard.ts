/**
 * A second process that lets the container go on if this one is killed while the container stands still (kill -9, the
 * OOM killer): nothing else on the node would. Its standard input is the tie: end of file without a word means that
 * this process is gone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Code } from '../../proto/status.ts';
import type { Cleanup } from '../cleanup.ts';
import type { GuardOptions } from '../commands/handlers.ts';
import { CliError } from '../error.ts';

const READY_MS = 30_000;
const END_MS = 5_000;

/** What the guard hears when it is no longer needed. */
export const DISMISSED = 'done';
export const READY = 'ready';

/** Resolves when the guard watches; it is dismissed by the cleanup. */
export async function startGuard(options: GuardOptions, cleanup: Cleanup): Promise<void> {
  const program = process.argv[1];
  if (program === undefined) throw new CliError(Code.internal, 'Cannot find my own program');
  const args = ['--address', options.address, '--namespace', options.namespace];
  const guard = spawn(
    process.execPath,
    [program, ...args, 'guard', ...guardArgs(options)],
    // A session of its own: a terminal's Ctrl-C or hang-up is not for it.
    { stdio: ['pipe', 'pipe', 'ignore'], detached: true, env: {} },
  );
  // It may be gone already when it is dismissed.
  guard.stdin.on('error', () => undefined);
  const failed = new Promise<never>((_, reject) => {
    guard.once('error', reject);
    guard.once('exit', (code) => reject(new Error(`the guard ended with ${code}`)));
  });
  failed.catch(() => undefined);
  cleanup.add('end the guard process', () => dismiss(guard));
  const deadline = AbortSignal.timeout(READY_MS);
  try {
    await Promise.race([once(guard.stdout, 'data', { signal: deadline }), failed]);
  } catch (error) {
    throw new CliError(
      Code.internal,
      'Cannot start the process that would resume the container if this one were killed; try again',
      { cause: error },
    );
  }
}

function guardArgs({ container, remove, trial, snapshotter, resume }: GuardOptions): string[] {
  const args = [container, '--remove', remove, '--trial', trial, '--snapshotter', snapshotter];
  return resume ? args : [...args, '--no-resume'];
}

async function dismiss(guard: ChildProcess): Promise<void> {
  if (guard.exitCode !== null || guard.signalCode !== null) return;
  const ended = once(guard, 'exit', { signal: AbortSignal.timeout(END_MS) });
  guard.stdin?.end(DISMISSED);
  try {
    await ended;
  } catch {
    guard.kill('SIGKILL');
  }
}
