import { setTimeout as sleep } from 'node:timers/promises';
import { Code, describeError } from '../../proto/status.ts';
import { type Cleanup, checkInterrupted } from '../cleanup.ts';
import type { Containerd, Descriptor, Mount } from '../containerd/index.ts';
import { CliError } from '../error.ts';
import type { Progress } from '../ui/progress.ts';

/** SHA-256 of a tar without entries (two blocks of zeros): the diff of a root file system that did not change. */
export const EMPTY_TAR = 'sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef';

/** Best first; containerd 1.7's differ answers Unimplemented for zstd. */
const DIFF_TYPES = [
  'application/vnd.oci.image.layer.v1.tar+zstd',
  'application/vnd.oci.image.layer.v1.tar+gzip',
];

/** CRIU's words for tasks that it could not stop in time. */
const CAUGHT_IN_VFORK = /Unseizable|Timeout reached/;
const DUMP_ATTEMPTS = 4;
const ATTEMPT_PAUSE_MS = 100;
const UNCOMPRESSED_LABEL = 'containerd.io/uncompressed';
const SIGKILL = 9;

export interface FreezeOptions {
  /** Calls in the lease, cut short by the signal. */
  containerd: Containerd;
  /** Without lease and signal: the container must go on in any case. */
  undo: Containerd;
  signal: AbortSignal;
  cleanup: Cleanup;
  progress: Progress;
  id: string;
  /** Somebody else's pause is left as it is. */
  wasPaused: boolean;
  /** The container does not go on if the dump fails: its caller ends it. */
  ends?: boolean | undefined;
  imagePath: string;
  workPath: string;
  mounts(): Promise<{ left: Mount[]; right: Mount[] }>;
  /** Throws if the dump does not hold together. */
  checkDump(): Promise<void>;
  /** Empties `imagePath` of what a failed dump left there. */
  clearImages(): Promise<void>;
}

export interface LayerDiff {
  descriptor: Descriptor;
  diffId: string;
}

export interface Frozen {
  /** Null if nothing in the root file system changed. */
  diff: LayerDiff | null;
  /** Lets the container go on; does nothing the second time. */
  resume(): Promise<void>;
}

/** Dumps the processes and compares the root file system while the container stands still. */
export async function dumpFrozen(options: FreezeOptions): Promise<Frozen> {
  const { containerd, undo, cleanup, progress, id, signal } = options;
  let resume = () => Promise.resolve();
  if (!options.wasPaused) {
    // Before the pause itself: one that timed out may still take effect.
    resume = cleanup.add(`resume ${id}; try "ctr tasks resume ${id}"`, () => resumeTask(options));
    await undo.tasks.pause(id);
  }
  const dumping = progress.step('Dumping the processes');
  await dump(options);
  dumping.finish();
  checkInterrupted(signal);
  const comparing = progress.step('Comparing the root file system');
  const { left, right } = await options.mounts();
  const diff = await compare(containerd, left, right);
  comparing.finish(diff === null ? 'nothing changed' : undefined);
  return { diff, resume };
}

/**
 * A task that the pause caught between vfork and exec leaves its parent where no tracer can stop it, and CRIU gives up;
 * for one that it caught while it ended CRIU writes a process with the id 0. A moment later both are through: so the
 * container runs on for that moment, and is paused again.
 */
async function dump(options: FreezeOptions): Promise<void> {
  const { undo, id, wasPaused, signal } = options;
  for (let attempt = 1; ; attempt++) {
    try {
      // Not cut short by the signal: the shim would go on dumping into a directory that is being removed.
      await undo.tasks.checkpoint(id, {
        exit: false,
        // The shim has CRIU close connections instead: they belong to the old pod's address.
        openTcp: false,
        externalUnixSockets: true,
        fileLocks: true,
        imagePath: options.imagePath,
        workPath: options.workPath,
      });
      await options.checkDump();
      return;
    } catch (error) {
      const { code, message } = describeError(error);
      const passing = CAUGHT_IN_VFORK.test(message) || code === Code.dataLoss;
      if (!passing || wasPaused || signal.aborted || attempt === DUMP_ATTEMPTS)
        throw dumpError(error, options);
    }
    await undo.tasks.resume(id);
    await options.clearImages();
    await sleep(ATTEMPT_PAUSE_MS);
    await undo.tasks.pause(id);
  }
}

async function resumeTask({ undo, id }: FreezeOptions): Promise<void> {
  try {
    await undo.tasks.resume(id);
  } catch (error) {
    const { code } = describeError(error);
    // Gone meanwhile, or never paused: nothing stands still.
    if (code === Code.notFound) return;
    if ((await undo.tasks.get(id)).status !== 'PAUSED') return;
    throw error;
  }
}

/** The shim's own words name what CRIU could not dump; what it means for the container is added. */
function dumpError(error: unknown, { id, ends }: FreezeOptions): CliError {
  const { code, message } = describeError(error);
  if (code === Code.canceled || code === Code.unavailable || !(error instanceof CliError))
    return error instanceof CliError ? error : new CliError(code, message, { cause: error });
  const then = ends ? '' : `; ${id} goes on running, and can be saved once it no longer uses that`;
  return new CliError(code, `${message}${then}`, { cause: error.cause });
}

async function compare(containerd: Containerd, left: Mount[], right: Mount[]): Promise<LayerDiff | null> {
  let unsupported: unknown;
  for (const mediaType of DIFF_TYPES) {
    try {
      const descriptor = await containerd.diff(left, right, mediaType);
      const diffId = (await containerd.content.info(descriptor.digest)).labels[UNCOMPRESSED_LABEL];
      if (diffId === undefined)
        throw new CliError(
          Code.internal,
          `Cannot use the rootfs diff ${descriptor.digest}: containerd did not say what its uncompressed digest is`,
        );
      return diffId === EMPTY_TAR ? null : { descriptor, diffId };
    } catch (error) {
      if (describeError(error).code !== Code.unimplemented) throw error;
      unsupported = error;
    }
  }
  throw unsupported;
}

/** Ends a container that stands still, for good. */
export async function killFrozen(containerd: Containerd, id: string, deadlineMs: number): Promise<void> {
  const ended = containerd.tasks.wait(id, deadlineMs);
  ended.catch(() => undefined);
  await containerd.tasks.kill(id, SIGKILL);
  // A frozen cgroup (v1) delivers the signal only when it thaws; no instruction of the process runs before it.
  await containerd.tasks.resume(id).catch(() => undefined);
  await ended;
}
