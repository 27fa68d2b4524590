/**
 * One try at a restore: everything from the images directory to a running process, or back to where it began.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fitCore } from '../../checkpoint/criu/fit-core.ts';
import { ImageDir } from '../../checkpoint/criu/image-dir.ts';
import type { ImageRights } from '../../checkpoint/criu/image-rights.ts';
import { SECCOMP_IMAGE } from '../../checkpoint/criu/seccomp-image.ts';
import type { AfterRestore } from '../../checkpoint/facts.ts';
import { Code, describeError } from '../../proto/status.ts';
import { restoreConf } from '../criu-conf.ts';
import { criuSaid, withoutLogFile } from '../criu-log.ts';
import type { CudaFacts } from '../cuda/gpus.ts';
import type { GpuRestore } from '../cuda/resume.ts';
import type { Origin } from '../identity/restore-file.ts';
import type { TellInput, Telling } from '../identity/tell.ts';
import type { Log } from '../log.ts';
import { labelFlags } from '../lsm.ts';
import { killBelow, killTree, procTree } from '../process/process-tree.ts';
import type { FilledShm } from '../shm/fill.ts';
import { within } from '../stdio/index.ts';
import { writeConfig } from '../task/bundle.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import type { PlanInput, RestoreInput } from '../task/start-plan.ts';
import { RestoreError } from './error.ts';
import type { Grants } from './grants.ts';
import { runPoststart } from './hooks.ts';
import { fittedLimits, imageExcess } from './image-excess.ts';
import { makeImagesDir, type PodNames } from './images-dir.ts';
import type { LazyMemory } from './lazy/lazy-memory.ts';
import type { PreparedMemory } from './lazy/prepare.ts';
import { setOomScore } from './oom-score.ts';
import { checkOpenFiles } from './open-files.ts';
import { type NamespaceFiles, restoreNamespaces, saveNamespaces } from './pod-namespaces.ts';
import { podFilters } from './seccomp/index.ts';
import type { SharedFill } from './shared/fill.ts';
import { FILES_IMAGE, movedSockets } from './sockets.ts';
import { type VolumeSockets, volumeSockets } from './volume-sockets.ts';
import type { EditedConfig } from './wrapper-edits.ts';

export interface AttemptDeps {
  namespaceFiles: NamespaceFiles;
  /** Throws for images that CRIU would not survive. */
  checkImages(imagesDir: string): Promise<void>;
  /** What tells the container that it was restored. */
  telling(input: TellInput): Telling;
  /** All that the CRIU images of a directory would give. */
  imageRights(imagesDir: string): Promise<ImageRights>;
  /** What the container is granted. */
  grants(spec: OciSpec, rootfs: string): Promise<Grants>;
  /** What the restored processes have beyond that. */
  excessInProc(root: number, grants: Grants): Promise<string[]>;
  /** Directories of the container's cgroup, one a hierarchy. */
  cgroupDirs(spec: OciSpec): Promise<string[]>;
  /** Puts what was in /dev/shm where the container has it. All or nothing; undefined if there is nothing to put. */
  fillShm(imagesDir: string, spec: OciSpec): Promise<FilledShm | undefined>;
  /** Fills large shared memory in CRIU's place, which is given `target`. Undefined where CRIU does it all itself. */
  fillShared(imagesDir: string, target: string, log: Log): Promise<SharedFill | undefined>;
  /** Removes runc's state, CRIU's root bind and the container's cgroups, and ends what still runs in them. */
  removeTraces(input: AttemptInput): Promise<void>;
}

/** For a checkpoint with GPU state. */
export type PrepareGpu = (
  facts: CudaFacts,
  input: Pick<PlanInput, 'spec' | 'runc' | 'log'>,
) => Promise<GpuRestore>;

export interface AttemptInput extends RestoreInput {
  /** What the container gets, with the edits of a program in front of runc. */
  spec: OciSpec;
  /** Such edits. */
  edited?: EditedConfig | undefined;
  /** Checkpoint files: complete, but for the memory that comes later. */
  imagesDir: string;
  /** What `checkImages` says of them, if it was asked before. */
  checked?: Promise<ImageRights>;
  /** Memory that comes later. */
  memory?: PreparedMemory | undefined;
  /** What was on GPUs, and comes back once CRIU is done. */
  gpu?: GpuRestore | undefined;
  /** For the container to read. */
  checkpoint: Origin;
  afterRestore: AfterRestore;
  /** Told before a container is killed whose memory cannot be had right. */
  memoryLost?(reason: string): void;
  deadlineMs: number;
  /** For the GPU's part, after CRIU; the driver's own deadlines if absent. */
  gpuDeadlineMs?: number;
  /** Work directory of CRIU that the caller named and that is kept; one of the attempt's own if empty. */
  keptWorkDir?: string;
}

export function criuWorkDir({ workDir, keptWorkDir }: Pick<AttemptInput, 'workDir' | 'keptWorkDir'>): string {
  return keptWorkDir || join(workDir, 'criu');
}

export interface Restored {
  /** Of the root task. */
  pid: number;
  memory?: LazyMemory | undefined;
  /** To be taken away again when the container is deleted. */
  shm?: FilledShm | undefined;
}

/** What runc may take to end after CRIU. */
const UNDO_MS = 5_000;
/** What a failed attempt may take until nothing of its memory is served any more. */
const MEMORY_END_MS = 10_000;

/** Rejects with a RestoreError once nothing of the attempt is left. */
export async function attemptRestore(input: AttemptInput, deps: AttemptDeps): Promise<Restored> {
  const { spec, bundle, id, runc, log } = input;
  const images = join(input.workDir, 'images');
  const work = criuWorkDir(input);
  const saved = saveNamespaces(spec, deps.namespaceFiles);
  const tell = deps.telling({ ...input, hostname: saved.hostname });
  let restored: number | undefined;
  let memory: LazyMemory | undefined;
  let shm: FilledShm | undefined;
  let sockets: VolumeSockets | undefined;
  let shared: SharedFill | undefined;
  try {
    await mkdir(work, { recursive: true, mode: 0o700 });
    const grants = await deps.grants(spec, join(bundle, 'rootfs'));
    const granted = (input.checked ?? checkImages(input.imagesDir, deps)).then((rights) => {
      refuseExcess(imageExcess(rights, grants));
      return fittedImages(input.imagesDir, rights, grants);
    });
    // Side by side, as each waits for files more than it computes; all have ended before anything is undone.
    const ready = await Promise.allSettled([
      granted,
      makeImages(input, images, saved, granted, deps),
      startMemory(input, work, deps),
      deps.fillShm(input.imagesDir, spec),
      checkOpenFiles(input.imagesDir, spec),
      volumeSockets(input.imagesDir, spec),
      writeFile(join(bundle, 'criu.conf'), restoreConf(), { mode: 0o600 }),
    ]);
    if (input.edited) writeConfig(bundle, input.edited.after);
    const [, fifos, started, filled, , looked] = ready;
    if (fifos.status === 'fulfilled') shared = fifos.value;
    if (started.status === 'fulfilled') memory = started.value;
    if (filled.status === 'fulfilled') shm = filled.value;
    if (looked.status === 'fulfilled') sockets = looked.value;
    for (const step of ready) if (step.status === 'rejected') throw step.reason;
    tell.before();
    await withDeadline(
      (onSpawn) =>
        runc.restore(
          {
            id,
            bundle,
            imagePath: images,
            workPath: work,
            pidFile: input.pidFile,
            consoleSocket: input.consoleSocket,
            noPivot: input.noPivot,
            fileLocks: true,
            externalUnixSockets: true,
            extra: [...(memory ? ['--lazy-pages'] : []), ...labelFlags(spec)],
          },
          {
            stdio: input.stdio,
            // The attempt's own deadline comes first and ends the whole tree.
            deadlineMs: input.deadlineMs + 10_000,
            onSpawn: (pid) => {
              shared?.within(pid);
              onSpawn(pid);
            },
          },
        ),
      input.deadlineMs,
    );
    restored = Number((await readFile(input.pidFile, 'utf8')).trim());
    if (shared) {
      await shared.stop();
      log.info({ container: id, ...shared.done }, 'shared memory is in place');
    }
    refuseExcess(await deps.excessInProc(restored, grants));
    const pid = restored;
    await setOomScore(pid, spec, log);
    memory?.attach(pid, ({ message }) => {
      input.memoryLost?.(message);
      log.error({ container: id, reason: message }, 'killing the restored container');
      killTree(pid, procTree).catch((error: unknown) =>
        log.error({ container: id, reason: describeError(error).message }, 'cannot kill it'),
      );
    });
    // Its memory arrives meanwhile: the slower of the two decides.
    await input.gpu?.resume(pid, input.gpuDeadlineMs).catch(stuck);
    await tell.running(pid);
    await runPoststart(spec, { id, bundle, pid }, runc);
    return { pid, memory, shm };
  } catch (failed) {
    const cause = shared?.failure ?? failed;
    if (restored !== undefined) await killTree(restored, procTree);
    await shared?.stop();
    memory?.finish();
    // What CRIU says explains nothing once it is through.
    const criuLog = restored === undefined ? join(work, 'restore.log') : undefined;
    const reason = await explain(cause, criuLog, join(bundle, 'criu-restore.log'));
    await undo(input, deps, images);
    tell.takeBack();
    await shm?.takeAway();
    await sockets?.takeAway();
    if (memory && !(await within(memory.ended, MEMORY_END_MS)))
      log.warn({ container: id }, 'processes of the failed restore are still there');
    throw reason;
  } finally {
    const changed = restoreNamespaces(saved, deps.namespaceFiles);
    if (changed.length > 0)
      log.info({ container: id, files: changed }, 'put back the pod settings that CRIU changed');
  }
}

/** Rejects for images that CRIU would not survive; else the rights of every task in them. */
export async function checkImages(
  imagesDir: string,
  deps: Pick<AttemptDeps, 'checkImages' | 'imageRights'>,
): Promise<ImageRights> {
  const [rights] = await Promise.all([deps.imageRights(imagesDir), deps.checkImages(imagesDir)]);
  return rights;
}

async function makeImages(
  { imagesDir, memory, spec, id, log }: AttemptInput,
  target: string,
  names: PodNames,
  fitted: Promise<ReadonlyMap<string, Uint8Array>>,
  deps: Pick<AttemptDeps, 'namespaceFiles' | 'fillShared'>,
): Promise<SharedFill | undefined> {
  const changed = new Map([...(memory?.images ?? []), ...(await fitted)]);
  const sockets = await movedSockets(imagesDir, spec, deps.namespaceFiles);
  if (sockets) {
    changed.set(FILES_IMAGE, sockets.image);
    log.info({ container: id, moved: sockets.moved }, "sockets get the pod's address");
  }
  await makeImagesDir(imagesDir, target, names, changed);
  return deps.fillShared(imagesDir, target, log);
}

async function startMemory(
  { memory, spec, runc, log }: AttemptInput,
  work: string,
  deps: AttemptDeps,
): Promise<LazyMemory | undefined> {
  return memory?.start(work, await deps.cgroupDirs(spec), runc.spawner, log);
}

function stuck(cause: unknown): never {
  const { code, message, context } = describeError(cause);
  throw new RestoreError(code, message, { cause, context: { ...context, phase: 'gpu' } });
}

function refuseExcess(excess: readonly string[]): void {
  if (excess.length === 0) return;
  throw new RestoreError(
    Code.permissionDenied,
    `The checkpoint asks for more than the pod grants: ${excess.join('; ')}`,
  );
}

/** Images that give tasks other limits and filters than they had, by name. */
async function fittedImages(
  dir: string,
  { processes, filters }: ImageRights,
  grants: Grants,
): Promise<Map<string, Buffer>> {
  await using images = await ImageDir.open(dir);
  const fitted = new Map<string, Buffer>();
  const limits = fittedLimits(processes, grants);
  const pod = await podFilters(images, filters, grants.spec);
  if (pod) fitted.set(SECCOMP_IMAGE, pod.image);
  for (const task of new Set([...limits.keys(), ...(pod?.given.keys() ?? [])])) {
    const name = `core-${task}.img`;
    const fits = { ...limits.get(task), seccompFilter: pod?.given.get(task) };
    fitted.set(name, fitCore(await images.read(name), name, fits));
  }
  return fitted;
}

/** Ends what the started process has started at the deadline; then the call itself settles. */
async function withDeadline(start: (onSpawn: (pid: number) => void) => Promise<void>, deadlineMs: number) {
  let root: number | undefined;
  let ending: Promise<void> | undefined;
  const started = start((pid) => {
    root = pid;
  });
  const timer = setTimeout(() => {
    // While the call is pending runc has not been reaped, so its pid is still its own.
    if (root !== undefined) ending = endRestore(root, started);
  }, deadlineMs);
  try {
    await started;
  } catch (cause) {
    if (!ending) throw cause;
    throw tooLate(deadlineMs, cause);
  } finally {
    clearTimeout(timer);
    await ending;
  }
  // It may have got through in the same moment; what it restored has been killed.
  if (ending) throw tooLate(deadlineMs);
}

/** runc itself is left alone at first: it finds CRIU gone, and runs the hooks that undo those that it ran before. */
async function endRestore(runc: number, started: Promise<void>): Promise<void> {
  await killBelow(runc, procTree);
  if (!(await within(started, UNDO_MS))) await killTree(runc, procTree);
}

function tooLate(deadlineMs: number, cause?: unknown): RestoreError {
  return new RestoreError(Code.deadlineExceeded, `The restore did not end within ${deadlineMs} ms`, {
    cause,
  });
}

/** Quotes what CRIU says, and keeps its whole log where it outlives the attempt. */
async function explain(cause: unknown, restoreLog: string | undefined, kept: string): Promise<RestoreError> {
  const { code, message: said, context } = describeError(cause);
  const message = withoutLogFile(said);
  const text = restoreLog ? await readFile(restoreLog, 'utf8').catch(() => '') : '';
  if (!text) return new RestoreError(code, message, { cause, context });
  await writeFile(kept, text, { mode: 0o600 });
  const quoted = `${message} (CRIU: ${criuSaid(text)})`;
  return new RestoreError(code, quoted, { cause, context: { ...context, log: kept } });
}

async function undo(input: AttemptInput, deps: AttemptDeps, images: string): Promise<void> {
  await deps.removeTraces(input);
  await rm(images, { recursive: true, force: true });
  await rm(input.pidFile, { force: true });
  // It would edit it once more.
  if (input.edited) writeConfig(input.bundle, input.edited.before);
  // A cold start must not meet restore-only words.
  await writeFile(join(input.bundle, 'criu.conf'), '', { mode: 0o600 });
}
