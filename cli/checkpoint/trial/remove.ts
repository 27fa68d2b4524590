/** Takes a trial away, however far it came. */
import { Code, describeError } from '../../../proto/status.ts';
import { ignoreMissing } from '../../cleanup.ts';
import type { Containerd } from '../../containerd/index.ts';

const SIGKILL = 9;
/** A restore that is going on ends first. */
const END_MS = 100_000;

/** Of a container with the name of its snapshot. `containerd` must have no signal: this must not be cut short. */
export async function removeTrial(containerd: Containerd, snapshotter: string, id: string): Promise<void> {
  await ignoreMissing(endTask(containerd, id));
  await ignoreMissing(containerd.containers.remove(id));
  await ignoreMissing(containerd.snapshots(snapshotter).remove(id));
}

async function endTask({ tasks }: Containerd, id: string): Promise<void> {
  try {
    await tasks.kill(id, SIGKILL, { all: true });
  } catch (error) {
    // NOT_FOUND also means a process that has ended.
    if (describeError(error).code !== Code.notFound) throw error;
  }
  await tasks.wait(id, END_MS);
  await tasks.delete(id);
}
