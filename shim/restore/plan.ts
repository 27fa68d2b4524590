/**
 * From a rootfs mount with a checkpoint below it to a plan: restore, or cold with the reason. Loaded only where there is
 * a checkpoint; index.ts is the cheap look.
 */
import type { AfterRestore, CheckpointFacts } from '../../checkpoint/facts.ts';
import { hostFacts, mountFacts, type Versions } from '../../checkpoint/host-facts.ts';
import { launchOf } from '../../checkpoint/launch.ts';
import { readCheckpointFacts } from '../../checkpoint/read-facts.ts';
import type { FailedRestore, FailedRestores, NodeFacts } from '../../node-state/failed-restores.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { GpuRestore } from '../cuda/resume.ts';
import { afterRestore } from '../identity/after-restore.ts';
import type { Log } from '../log.ts';
import { mountedFiles } from '../mounted-files.ts';
import { hookObstacles } from '../nvidia-mounts.ts';
import type { FilledShm } from '../shm/fill.ts';
import { surroundingsOf } from '../surroundings.ts';
import type { Mount, PlanInput, StartPlan } from '../task/start-plan.ts';
import { type AttemptDeps, attemptRestore, checkImages, type PrepareGpu, type Restored } from './attempt.ts';
import type { Daemon, Located } from './daemon.ts';
import { RestoreRefused } from './error.ts';
import { type Overlay, type SplitLayers, splitLayers, withLowerDirs } from './layers.ts';
import type { PreparedMemory } from './lazy/prepare.ts';
import { wishesOf } from './policy.ts';
import { memoryLimitOf, namespaceObstacles, preflight } from './preflight.ts';
import type { Phase, Report } from './report.ts';
import { profileObstacles } from './seccomp/index.ts';
import { deservesSecondTry } from './second-try.ts';
import { shapeOf } from './shape.ts';
import { unrunHooks } from './unrun-hooks.ts';
import { forgetVolatile, listUpper, resetUpper, type UpperListing } from './upper-dir.ts';
import type { EditedConfig } from './wrapper-edits.ts';

/** The kubelet gives StartContainer two minutes; fetch, restore and the cold start after it must fit. */
const FETCH_DEADLINE_MS = 60_000;
const RESTORE_DEADLINE_MS = 30_000;
/** From the beginning of Start to the end of the GPU's part. */
const GPU_DEADLINE_MS = 90_000;

export interface PlanDeps extends AttemptDeps {
  daemon: Pick<Daemon, 'locate' | 'awaitComplete'>;
  /** Undefined if all of the checkpoint has to be here before the restore. */
  prepareMemory(
    located: Located,
    deadlineMs: number,
    relocate: () => Promise<unknown>,
    log: Log,
  ): Promise<PreparedMemory | undefined>;
  versions(input: PlanInput): Promise<Versions>;
  prepareGpu: PrepareGpu;
  /** Of a program in front of runc. */
  wrapperEdits(input: PlanInput): Promise<EditedConfig | undefined>;
  /** A shared flock on the file, given back by the returned function. Throws if the checkpoint is being evicted. */
  lockShared(file: string): Promise<() => Promise<void>>;
  unmountRootfs(bundle: string): Promise<void>;
  mountRootfs(bundle: string, mounts: readonly Mount[]): Promise<void>;
  report: Report;
  /** Restores that are not tried again. */
  failures: Pick<FailedRestores, 'find' | 'add'>;
  node(versions: Versions): Promise<NodeFacts>;
  /** Once nothing is waited for any more. Never rejects. */
  afterMemory(restored: Restored, facts: CheckpointFacts, log: Log): Promise<void>;
}

/** `markerBytes` is the checkpoint.json found beside or in the bottom layer; only its layer counts are believed. */
export async function planRestore(
  input: PlanInput,
  overlay: Overlay,
  markerBytes: Uint8Array,
  deps: PlanDeps,
): Promise<StartPlan> {
  const began = performance.now();
  const { spec } = input;
  const { policy, except, problems } = wishesOf(spec);
  const log = input.log.child({ container: input.id });
  const marker = readCheckpointFacts(markerBytes);
  const split = splitLayers(overlay.lowerDirs, countsOf(marker));
  const cold = (reasons: readonly string[], lowerDirs = split.cold): StartPlan => {
    const reason = reasons.join('; ');
    if (policy === 'require') throw new RestoreRefused(reasons);
    log.warn({ reason, reasons }, 'starting cold');
    return { kind: 'cold', rootfs: withLowerDirs(input.rootfs, lowerDirs), reason, reasons };
  };

  if (policy === 'off') return cold(['the annotation thaw.dev/restore is "off"']);
  // Every reason is told at once: whoever mends one shall not meet the next one tomorrow.
  const mismatches = [...problems, ...unfit(spec)];
  const locate = () =>
    deps.daemon.locate({
      namespace: input.namespace,
      containerId: input.id,
      lowerDirs: overlay.lowerDirs,
    });
  // All of these take a while, and none needs the others.
  const versions = deps.versions(input);
  const files = mountedFiles(spec);
  for (const early of [versions, files]) early.catch(() => {});
  let located: Located;
  try {
    located = await locate();
  } catch (cause) {
    const { code, message } = describeError(cause);
    // Layers of another image than the checkpoint's: which of them is the diff cannot be known.
    const lowerDirs = code === Code.failedPrecondition ? allButCheckpoint(overlay, marker) : split.cold;
    return cold([...mismatches, message], lowerDirs);
  }
  const facts = readCheckpointFacts(located.checkpointJson);
  const host = await hostFacts(await versions);
  const edited = await deps.wrapperEdits(input);
  const given = edited?.spec ?? spec;
  mismatches.push(
    ...(facts.cuda ? hookObstacles(given) : []),
    ...(except.hooks ? [] : unrunHooks(given)),
    ...preflight(facts, {
      launch: { ...launchOf(spec), files: await files },
      host,
      mounts: mountFacts(given),
      surroundings: surroundingsOf(given),
      memoryLimit: memoryLimitOf(spec),
      except,
    }),
  );
  const after = wantedAfter(spec, facts, mismatches);
  const attempt = {
    checkpoint: located.id,
    shape: shapeOf(spec, after),
    node: await deps.node(await versions),
  };
  const failure = deps.failures.find(attempt.checkpoint, attempt.shape, attempt.node);
  if (failure) mismatches.push(failedBefore(failure));
  const gpu = facts.cuda && (await deps.prepareGpu(facts.cuda, { ...input, spec: given, log }));
  try {
    if (gpu) mismatches.push(...(await gpuMismatches(gpu)));
    const upper = overlay.upperDir ? await listUpper(overlay.upperDir) : new Set<string>();
    if (!upper) mismatches.push("the container's upper directory is not a fresh one");
    if (mismatches.length > 0 || !upper) {
      gpu?.close();
      return cold(mismatches);
    }
    const required = policy === 'require';
    const planMs = performance.now() - began;
    const failed = (reason: string) =>
      deps.failures.add({ ...attempt, reason, at: new Date().toISOString() });
    return await restorePlan(
      { input, edited, overlay, split, locate, located, facts, after, gpu, upper, required, planMs, failed },
      deps,
    );
  } catch (error) {
    // Without a plan nobody else ends the program behind it.
    gpu?.close();
    throw error;
  }
}

/** What no checkpoint can be restored into. */
function unfit(spec: PlanInput['spec']): string[] {
  return [
    // The saved process may have had none, or another one's settings; CRIU has to be told which before it is known.
    ...(spec.process?.terminal ? ['the container has a terminal'] : []),
    ...namespaceObstacles(spec),
    ...profileObstacles(spec),
  ];
}

function wantedAfter(
  { annotations }: PlanInput['spec'],
  facts: CheckpointFacts,
  problems: string[],
): AfterRestore {
  try {
    return afterRestore(annotations, facts.afterRestore);
  } catch (error) {
    problems.push(describeError(error).message);
    return {};
  }
}

function failedBefore({ checkpoint, at, reason }: FailedRestore): string {
  const id = checkpoint.slice(0, 'sha256:'.length + 12);
  return `its restore failed on this node at ${at}, and nothing has changed since: ${reason} (thaw retry ${id})`;
}

async function gpuMismatches(gpu: GpuRestore): Promise<string[]> {
  try {
    return await gpu.differences();
  } catch (error) {
    return [`the checkpoint has GPU state, and ${describeError(error).message}`];
  }
}

function countsOf(facts: CheckpointFacts) {
  const { checkpoint, base, diff } = facts.layers;
  return { checkpoint, base: base.length, diff: diff ? (1 as const) : (0 as const) };
}

function allButCheckpoint(overlay: Overlay, facts: CheckpointFacts): string[] {
  return overlay.lowerDirs.slice(0, overlay.lowerDirs.length - facts.layers.checkpoint);
}

interface Chosen {
  input: PlanInput;
  edited: EditedConfig | undefined;
  overlay: Overlay;
  split: SplitLayers;
  locate: () => Promise<Located>;
  located: Located;
  facts: CheckpointFacts;
  after: AfterRestore;
  gpu: GpuRestore | undefined;
  upper: UpperListing;
  required: boolean;
  /** How long it took to choose this. */
  planMs: number;
  /** It is not to be tried again. */
  failed(reason: string): void;
}

async function restorePlan(chosen: Chosen, deps: PlanDeps): Promise<StartPlan> {
  const { input, edited, overlay, split, locate, located } = chosen;
  const { facts, after, gpu, upper, required, planMs, failed } = chosen;
  const unlock = await deps.lockShared(located.lockFile);
  // Streaming goes on in the daemon; Start waits for what has to be here before.
  const prepared = prepare(located, locate, deps, input.log.child({ container: input.id }));
  const checked = prepared.then(() => checkImages(located.imagesDir, deps));
  for (const early of [prepared, checked]) early.catch(() => {});
  const coldRootfs = withLowerDirs(input.rootfs, split.cold);
  const restoreRootfs = withLowerDirs(input.rootfs, split.restore);
  const cleanRootfs = async (bundle: string) => {
    if (!overlay.upperDir) return;
    await deps.unmountRootfs(bundle);
    await resetUpper(overlay.upperDir, upper);
    if (overlay.workDir) await forgetVolatile(overlay.workDir);
  };
  let shm: FilledShm | undefined;
  const subject = { namespace: input.namespace, containerId: input.id, checkpointId: located.id };
  return {
    kind: 'restore',
    rootfs: restoreRootfs,
    required,
    async release() {
      gpu?.close();
      try {
        await shm?.takeAway();
      } finally {
        await unlock();
      }
    },
    async restore(start) {
      const began = performance.now();
      const log = start.log.child({ container: start.id, checkpoint: located.id });
      const times: Partial<Record<Phase, number>> = { plan: planMs };
      let isLost = false;
      try {
        const memory = await prepared;
        times.fetch = performance.now() - began;
        const ms = Math.round(times.fetch);
        if (memory) log.info({ ms }, 'what the restore begins with is on this node');
        else log.info({ ms }, 'checkpoint is complete on this node');
        const { imagesDir } = located;
        const memoryLost = (reason: string) => {
          isLost = true;
          failed(`a container that was restored from it had to be killed: ${reason}`);
          deps.report({ ...subject, outcome: 'lost', phase: 'memory', reason });
        };
        const attempt = () =>
          attemptRestore(
            {
              ...start,
              spec: edited?.spec ?? input.spec,
              edited,
              imagesDir,
              checked,
              memory,
              memoryLost,
              gpu,
              checkpoint: { id: located.id, created: facts.created, image: facts.image.reference },
              afterRestore: after,
              deadlineMs: RESTORE_DEADLINE_MS,
              gpuDeadlineMs: Math.max(1, GPU_DEADLINE_MS - (performance.now() - began)),
            },
            deps,
          );
        const restored = await attempt().catch(async (cause: unknown) => {
          if (isLost || !deservesSecondTry(cause, performance.now() - began)) throw cause;
          log.warn({ reason: describeError(cause).message }, 'GPU state is stuck, restoring once more');
          // Its threads ran, and may have written.
          await cleanRootfs(start.bundle);
          if (overlay.upperDir) await deps.mountRootfs(start.bundle, restoreRootfs);
          return attempt();
        });
        shm = restored.shm;
        const running = performance.now();
        times.restore = running - began - times.fetch;
        deps.report({ ...subject, outcome: 'restored', phase: 'restore', times });
        if (restored.memory) {
          void deps.afterMemory(restored, facts, log);
          const filled = () => {
            const memory = performance.now() - running;
            deps.report({ ...subject, outcome: 'filled', phase: 'memory', times: { memory } });
          };
          // What else becomes of it is told by memoryLost.
          restored.memory.complete.then(filled, () => {});
        }
        return { kind: 'restored', ...restored };
      } catch (cause) {
        const { code, message } = describeError(cause);
        await cleanRootfs(start.bundle);
        const outcome = required ? 'refused' : 'failed';
        const phase = times.fetch === undefined ? 'fetch' : 'restore';
        if (phase === 'restore' && isFinal(code)) failed(message);
        deps.report({ ...subject, outcome, phase, reason: message, times });
        return { kind: 'failed', reason: message, rootfs: coldRootfs };
      } finally {
        gpu?.close();
      }
    },
  };
}

/**
 * Rights that this pod does not grant another one may, what is short now may be there later, and what is in a volume or in
 * /dev/shm is each pod's own.
 */
function isFinal(code: Code): boolean {
  const ofThisPod: readonly Code[] = [
    Code.permissionDenied,
    Code.resourceExhausted,
    Code.alreadyExists,
    Code.unavailable,
  ];
  return !ofThisPod.includes(code);
}

async function prepare(
  located: Located,
  locate: () => Promise<Located>,
  deps: PlanDeps,
  log: Log,
): Promise<PreparedMemory | undefined> {
  // A daemon of the version before does not name the index.
  const until = performance.now() + FETCH_DEADLINE_MS;
  const memory = located.indexFile
    ? await deps.prepareMemory(located, FETCH_DEADLINE_MS, locate, log)
    : undefined;
  if (!memory)
    await deps.daemon.awaitComplete(located.id, Math.max(1, Math.round(until - performance.now())));
  return memory;
}
