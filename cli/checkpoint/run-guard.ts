import { readFile, rm } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { Code, describeError } from '../../proto/status.ts';
import type { GuardOptions } from '../commands/handlers.ts';
import { type Containerd, createContainerd } from '../containerd/index.ts';
import { DISMISSED, READY } from './guard.ts';
import { removeTrial } from './trial/remove.ts';
import { unmountBelow } from './trial/volumes.ts';

/** containerd may be restarting just then. */
const TRIES = 60;
const PAUSE_MS = 1000;

/** The guard itself: waits until it is dismissed or its parent is gone, and then undoes what the parent cannot. */
export async function runGuard(options: GuardOptions): Promise<void> {
  process.stdout.on('error', () => undefined);
  process.stdout.write(READY);
  if ((await text(process.stdin)) === DISMISSED) return;
  if (options.resume) await persist(options, (containerd) => resumeIfPaused(containerd, options.container));
  // A trial is removed before the images that it may be reading, and before the mounts that it has open.
  await persist(options, (containerd) => removeTrial(containerd, options.snapshotter, options.trial));
  const { native } = await import('../../native/index.ts');
  unmountBelow(options.remove, await readFile('/proc/self/mountinfo', 'utf8'), native);
  await rm(options.remove, { recursive: true, force: true });
}

async function persist(
  options: GuardOptions,
  undo: (containerd: Containerd) => Promise<void>,
): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      const containerd = await createContainerd(options);
      try {
        await undo(containerd);
      } finally {
        containerd.close();
      }
      return;
    } catch (error) {
      if (tries === TRIES || describeError(error).code === Code.notFound) return;
      await sleep(PAUSE_MS);
    }
  }
}

async function resumeIfPaused({ tasks }: Containerd, id: string): Promise<void> {
  // The dump may still be running: the shim resumes when it is done.
  if ((await tasks.get(id)).status === 'PAUSED') await tasks.resume(id);
}
