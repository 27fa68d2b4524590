/**
 * The plan for CRIU images that the caller names (CreateTaskRequest.checkpoint): who asks for exactly this gets an error
 * where it cannot be done, no cold start. Loaded only for such a container.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ImageDir } from '../../checkpoint/criu/image-dir.ts';
import { DUMP_FACTS_FILE, type DumpFacts, dumpFactsSchema } from '../../checkpoint/facts.ts';
import { limits } from '../../checkpoint/limits.ts';
import { TRIAL_LOSS_FILE } from '../../checkpoint/trial-files.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { GpuRestore } from '../cuda/resume.ts';
import { afterRestore } from '../identity/after-restore.ts';
import { hookObstacles } from '../nvidia-mounts.ts';
import type { FilledShm } from '../shm/fill.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import type { Mount, PlanInput, RestorePlan } from '../task/start-plan.ts';
import { type AttemptDeps, attemptRestore, type PrepareGpu } from './attempt.ts';
import { RestoreError } from './error.ts';
import { overlayOf } from './layers.ts';
import type { PreparedMemory } from './lazy/prepare.ts';
import { wishesOf } from './policy.ts';
import { hasUserNamespace } from './preflight.ts';
import { deservesSecondTry } from './second-try.ts';
import { unrunHooks } from './unrun-hooks.ts';
import { listUpper, resetUpper } from './upper-dir.ts';
import type { EditedConfig } from './wrapper-edits.ts';

/** No cold start has to fit in after it; the caller's own deadline may be shorter. */
const RESTORE_DEADLINE_MS = 90_000;

export interface GivenImages {
  imagePath: string;
  /** Where CRIU's log goes and stays; empty for a place that goes with the container. */
  workPath: string;
}

export interface GivenDeps extends AttemptDeps {
  /** Undefined unless the caller asks in the work directory for a record of which memory is touched, and there is some. */
  prepareRecorded(imagePath: string, workPath: string): Promise<PreparedMemory | undefined>;
  /** What our own dump says beside the images. */
  savedFacts(imagePath: string): Promise<DumpFacts | undefined>;
  prepareGpu: PrepareGpu;
  unmountRootfs(bundle: string): Promise<void>;
  mountRootfs(bundle: string, mounts: readonly Mount[]): Promise<void>;
  /** Of a program in front of runc. */
  wrapperEdits(input: PlanInput): Promise<EditedConfig | undefined>;
}

export function planGiven(input: PlanInput, images: GivenImages, deps: GivenDeps): RestorePlan {
  if (hasUserNamespace(input.spec))
    throw new RestoreError(
      Code.failedPrecondition,
      'Cannot restore into a container with a user namespace of its own; create it without one',
    );
  let shm: FilledShm | undefined;
  return {
    kind: 'restore',
    rootfs: input.rootfs,
    required: true,
    async release() {
      await shm?.takeAway();
    },
    async restore(start) {
      const { imagePath, workPath } = images;
      const given = {
        ...start,
        imagesDir: imagePath,
        deadlineMs: RESTORE_DEADLINE_MS,
        ...(workPath ? { keptWorkDir: workPath } : {}),
      };
      let gpu: GpuRestore | undefined;
      try {
        const facts = await deps.savedFacts(imagePath);
        const after = afterRestore(input.spec.annotations, facts?.afterRestore);
        const edited = await deps.wrapperEdits(input);
        const spec = edited?.spec ?? input.spec;
        warnOfHooks(spec, start);
        gpu = facts?.cuda && (await deps.prepareGpu(facts.cuda, { ...input, spec }));
        const differences = (await gpu?.differences()) ?? [];
        if (gpu) differences.push(...hookObstacles(spec));
        if (differences.length > 0) throw new RestoreError(Code.failedPrecondition, differences.join('; '));
        const memory = workPath ? await deps.prepareRecorded(imagePath, workPath) : undefined;
        let isLost = false;
        const memoryLost = (reason: string) => {
          isLost = true;
          writeLoss(workPath, reason);
        };
        const told = { checkpoint: {}, afterRestore: after };
        const attempt = { ...given, ...told, spec, edited, memory, memoryLost, gpu };
        const began = performance.now();
        const fresh = gpu && (await freshUpper(input.rootfs));
        const restored = await attemptRestore(attempt, deps).catch(async (cause: unknown) => {
          if (fresh === undefined || isLost || !deservesSecondTry(cause, performance.now() - began))
            throw cause;
          start.log.warn(
            { container: start.id, reason: describeError(cause).message },
            'GPU state is stuck, restoring once more',
          );
          // Its threads ran, and may have written.
          await deps.unmountRootfs(start.bundle);
          await resetUpper(fresh, new Set());
          await deps.mountRootfs(start.bundle, input.rootfs);
          return attemptRestore(attempt, deps);
        });
        shm = restored.shm;
        return { kind: 'restored', ...restored };
      } catch (cause) {
        const { message } = describeError(cause);
        start.log.warn({ container: start.id, images: imagePath, reason: message }, 'restore failed');
        return { kind: 'failed', reason: message, rootfs: input.rootfs };
      } finally {
        gpu?.close();
      }
    },
  };
}

/**
 * Nothing can be started cold in its place, and containerd's own shim restores without them too, so they are no reason to
 * refuse; but whoever relies on what they do has to know.
 */
function warnOfHooks(spec: OciSpec, { id, log }: Pick<PlanInput, 'id' | 'log'>): void {
  const reasons = wishesOf(spec).except.hooks ? [] : unrunHooks(spec);
  if (reasons.length > 0) log.warn({ container: id, reasons }, 'restoring without hooks of the container');
}

/**
 * The upper directory, if all that a first try writes can be taken away from it again. Whoever unpacked files there has no
 * second try: what is changed in them cannot be told.
 */
async function freshUpper(rootfs: readonly Mount[]): Promise<string | undefined> {
  const upper = overlayOf(rootfs)?.upperDir;
  return upper !== undefined && (await listUpper(upper))?.size === 0 ? upper : undefined;
}

/** Undefined beside the images of other dumps. */
export async function savedFacts(imagePath: string): Promise<DumpFacts | undefined> {
  // Where there is no such directory the checks of the images say so.
  await using images = await ImageDir.open(imagePath).catch(() => undefined);
  if (!images || !(await images.names()).includes(DUMP_FACTS_FILE)) return undefined;
  const text = (await images.read(DUMP_FACTS_FILE, limits.checkpointJsonBytes)).toString('utf8');
  try {
    return dumpFactsSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new RestoreError(
      Code.dataLoss,
      `Cannot read "${DUMP_FACTS_FILE}" beside the images: it is not what a checkpoint leaves; checkpoint again`,
      { cause },
    );
  }
}

/** At once, as whoever asked learns of the end right after. */
export function writeLoss(workPath: string, reason: string): void {
  try {
    writeFileSync(join(workPath, TRIAL_LOSS_FILE), reason, { mode: 0o600 });
  } catch {
    // The caller has taken its directory away; the log has the reason too.
  }
}
