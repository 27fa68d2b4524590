/**
 * How a container gets its first process: cold, or from a checkpoint. The task service knows only these interfaces;
 * shim/restore and shim/checkpoint implement them and main.ts passes them in.
 */
import type { Log } from '../log.ts';
import type { Runc } from '../runc/runc.ts';
import type { OciSpec } from './oci-spec.ts';

/** containerd.types.Mount */
export interface Mount {
  type: string;
  source: string;
  /** Below the root file system; empty for the root itself. */
  target: string;
  options: string[];
}

export interface ContainerPaths {
  namespace: string;
  id: string;
  /** Absolute path of the OCI bundle; the root file system is mounted on `<bundle>/rootfs`. */
  bundle: string;
}

export interface PlanInput extends ContainerPaths {
  /** What containerd asked to mount. */
  rootfs: readonly Mount[];
  /** CRIU images that the caller asks to restore; no cold start takes their place. */
  checkpoint?: { imagePath: string; workPath: string } | undefined;
  /** The bundle's parsed config.json. */
  spec: OciSpec;
  runc: Runc;
  log: Log;
}

export interface ColdPlan {
  kind: 'cold';
  /** What to mount for a cold start: the given mounts, or those without checkpoint layers. */
  rootfs: readonly Mount[];
  /** Why there is no restore, if there is a checkpoint: in one sentence, and apart. */
  reason?: string;
  reasons?: readonly string[];
}

/** Descriptors for stdin, stdout, stderr of runc, or 'ignore' for /dev/null. */
export type RuncStdio = readonly [number | 'ignore', number | 'ignore', number | 'ignore'];

export interface RestoreInput extends ContainerPaths {
  stdio: RuncStdio;
  /** For runc's --console-socket, if the container has a terminal. */
  consoleSocket?: string | undefined;
  /** File that the root task's pid (in the shim's PID namespace) must be written to. */
  pidFile: string;
  /** Scratch directory of the container, root-only; removed with the bundle. */
  workDir: string;
  runc: Runc;
  log: Log;
  noPivot: boolean;
}

/** Memory of a restored container that arrives while it runs. */
export interface RestoredMemory {
  /** Resolves when all of it is there; rejects if that cannot be, in which case the container is being killed. */
  readonly complete: Promise<void>;
  /** Resolves when nothing is served any more: all is there, or all processes are gone. */
  readonly ended: Promise<void>;
  /** The processes have ended, or are about to. */
  finish(): void;
}

export type RestoreOutcome =
  | { kind: 'restored'; pid: number; memory?: RestoredMemory | undefined }
  /**
   * Nothing of the attempt is left (processes, runc state, mounts below the root file system, rules, host name); the
   * root file system itself is still mounted as planned. `rootfs` is what to mount for the cold start.
   */
  | { kind: 'failed'; reason: string; rootfs: readonly Mount[] };

export interface RestorePlan {
  kind: 'restore';
  /** What to mount for the restore. */
  rootfs: readonly Mount[];
  /** Value of the `thaw.dev/restore` annotation "require": a failed restore is an error, no cold start. */
  required: boolean;
  /** Runs once, in Start. Never throws for a restore that could not be done: that is an outcome. */
  restore(input: RestoreInput): Promise<RestoreOutcome>;
  /** Gives back what the plan holds (cache lock). Idempotent; called when the container is deleted, whatever happened. */
  release(): Promise<void>;
}

export type StartPlan = ColdPlan | RestorePlan;

/** Decides at Create. A rejection fails Create; a checkpoint that cannot be used is a cold plan with a reason. */
export type StartPlanner = (input: PlanInput) => Promise<StartPlan>;

export const alwaysCold: StartPlanner = async ({ rootfs }) => ({ kind: 'cold', rootfs });

export interface DumpInput extends ContainerPaths {
  /** Pid of the container's init. */
  pid: number;
  spec: OciSpec;
  /** Empty directory that the images go to. */
  imagePath: string;
  /** CRIU's work directory, where dump.log goes. */
  workPath: string;
  /** The container is frozen now. */
  paused: boolean;
  /** The container ends with the dump. */
  exit: boolean;
  /** Established TCP connections are to be saved, not closed. */
  openTcp: boolean;
  runc: Runc;
  log: Log;
}

export type AfterResume = () => Promise<void>;

export interface DumpSession {
  /** Flags to add to `runc checkpoint`. */
  extraArgs: readonly string[];
  /**
   * Always called once after `runc checkpoint` ended. 'dumped': writes what belongs beside the images. 'failed': undoes
   * what prepareDump did, so that the workload goes on. Answers with what is left to do once a paused container has been
   * resumed.
   */
  finish(outcome: 'dumped' | 'failed'): Promise<AfterResume | undefined>;
}

/** Runs before `runc checkpoint`. A rejection leaves the container as it was and fails the Checkpoint RPC. */
export type PrepareDump = (input: DumpInput) => Promise<DumpSession>;

export const plainDump: PrepareDump = async () => ({ extraArgs: [], finish: async () => undefined });
