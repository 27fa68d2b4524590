import { rm } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { Code, describeError } from '../../proto/status.ts';
import type { GuardOptions } from '../commands/handlers.ts';
import { createContainerd } from '../containerd/index.ts';
import { DISMISSED, READY } from './guard.ts';

/** containerd may be restarting just then. */
const TRIES = 60;
const PAUSE_MS = 1000;

/** The guard itself: waits until it is dismissed or its parent is gone, and then undoes what the parent cannot. */
export async function runGuard(options: GuardOptions): Promise<void> {
  process.stdout.on('error', () => undefined);
  process.stdout.write(READY);
  if ((await text(process.stdin)) === DISMISSED) return;
  await resume(options);
  await rm(options.remove, { recursive: true, force: true });
}

async function resume(options: GuardOptions): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await resumeIfPaused(options);
      return;
    } catch (error) {
      if (tries === TRIES || describeError(error).code === Code.notFound) return;
      await sleep(PAUSE_MS);
    }
  }
}

async function resumeIfPaused(options: GuardOptions): Promise<void> {
  const containerd = await createContainerd(options);
  try {
    // The dump may still be running: the shim resumes when it is done.
    if ((await containerd.tasks.get(options.container)).status === 'PAUSED')
      await containerd.tasks.resume(options.container);
  } finally {
    containerd.close();
  }
}
