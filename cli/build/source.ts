/** The container that is built from: started on this node under thaw, in no pod, but like one in a pod. */
import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { Addon } from '../../native/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import { RUNTIME_NAME } from '../checkpoint/find.ts';
import { startGuard } from '../checkpoint/guard.ts';
import { removeTrial } from '../checkpoint/trial/remove.ts';
import { type Cleanup, checkInterrupted } from '../cleanup.ts';
import type { Containerd } from '../containerd/index.ts';
import { messageType } from '../containerd/protos.ts';
import type { AnyMessage } from '../containerd/types.ts';
import { CliError } from '../error.ts';
import { profileOfPods } from './apparmor.ts';
import type { BaseImage } from './base.ts';
import { claim } from './claim.ts';
import type { Watched } from './condition.ts';
import { stageConfigs } from './config-mounts.ts';
import { LogWatch } from './log-watch.ts';
import { ociSpec } from './oci-spec.ts';
import { checkMounts } from './plan.ts';
import { makePodFiles } from './pod-files.ts';
import type { BuildSpec } from './spec.ts';
import { resolveUser } from './user.ts';
import { readUserFiles, type UserFileCalls } from './user-files.ts';

const RUNC_OPTIONS = 'containerd.runc.v1.Options';

export type SourceCalls = UserFileCalls & Pick<Addon, 'mount' | 'networkNamespace' | 'connectInNamespace'>;

export interface SourceOptions {
  address: string;
  namespace: string;
  snapshotter: string;
  systemdCgroup: boolean;
  /** Calls in the lease, cut short by the signal. */
  store: Containerd;
  /** Without lease and signal. */
  undo: Containerd;
  cleanup: Cleanup;
  signal: AbortSignal;
  spec: BuildSpec;
  base: BaseImage;
  /** Snapshot of its layers. */
  parent: string;
  /** A directory that only root can read. */
  dir: string;
  id: string;
  calls: SourceCalls;
}

/**
 * The same for the same build, so that what its name gets into (cgroup paths in the images) is the same too, and two
 * builds of one image do not run side by side.
 */
export function sourceId(text: string, target: string): string {
  return `thaw-build-${createHash('sha256').update(`${target}\0${text}`).digest('hex').slice(0, 16)}`;
}

/** Runs when this returns; the cleanup removes it with all that was made for it. */
export async function startSource(options: SourceOptions): Promise<Watched> {
  const { store, undo, cleanup, signal, spec, base, id, dir, snapshotter, calls } = options;
  await checkMounts(spec);
  await claim(id, cleanup);
  await refuseLeftovers(options);
  const files = await makePodFiles(join(dir, 'pod'), calls, cleanup);
  const network = calls.networkNamespace();
  cleanup.add('close the network of the container', async () => closeSync(network));
  checkInterrupted(signal);
  const { address, namespace } = options;
  await startGuard(
    { address, namespace, container: id, remove: dir, trial: id, snapshotter, resume: false },
    cleanup,
  );
  // It is made and removed as a trial is. Before the first of it is made: a call that timed out may still take effect.
  cleanup.add(`remove the container ${id}; try "ctr containers rm ${id}"`, () =>
    removeTrial(undo, snapshotter, id),
  );
  const rootfs = await store.snapshots(snapshotter).prepare(id, options.parent);
  const accounts = await readUserFiles(rootfs, join(dir, 'root'), calls, cleanup);
  const oci = ociSpec({
    spec: await stageConfigs(spec, dir),
    config: base.run,
    user: resolveUser(spec.user, base.run.User ?? undefined, accounts),
    files,
    apparmorProfile: spec.security.apparmor_profile ?? (await profileOfPods()),
    network: `/proc/${process.pid}/fd/${network}`,
    cgroupsPath: options.systemdCgroup ? `system.slice:thaw:${id}` : `/${id}`,
  });
  const runtimeOptions = optionsOf(options.systemdCgroup);
  await store.containers.create({
    id,
    labels: { 'thaw.dev/build': base.reference },
    image: base.reference,
    runtime: RUNTIME_NAME,
    runtimeOptions,
    snapshotter,
    snapshotKey: id,
    spec: Buffer.from(JSON.stringify(oci)),
  });
  const log = join(dir, 'output.log');
  await store.tasks.create(id, { rootfs, options: runtimeOptions, output: `file://${log}` });
  const pid = await store.tasks.start(id);
  return {
    containerd: store,
    id,
    pid,
    process: oci.process,
    calls,
    signal,
    log: new LogWatch(log),
    state: async () => {
      const { status, exitStatus } = await undo.tasks.get(id);
      return { running: status === 'RUNNING', exitStatus };
    },
  };
}

function optionsOf(systemdCgroup: boolean): AnyMessage | undefined {
  if (!systemdCgroup) return undefined;
  const type = messageType('../runc/v1/options.proto', RUNC_OPTIONS);
  return { type_url: RUNC_OPTIONS, value: type.serialize({ systemdCgroup: true }) };
}

/** Of a command that was killed together with its guard. */
async function refuseLeftovers({ store, id, namespace }: SourceOptions): Promise<void> {
  const there = await store.containers.get(id).catch((error: unknown) => {
    if (describeError(error).code === Code.notFound) return undefined;
    throw error;
  });
  if (there === undefined) return;
  throw new CliError(
    Code.alreadyExists,
    `Cannot build: an earlier one left its container behind; remove it with 'ctr --namespace ${namespace} tasks rm --force ${id}; ctr --namespace ${namespace} containers rm ${id}'`,
  );
}
