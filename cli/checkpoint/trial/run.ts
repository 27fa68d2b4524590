/**
 * Restores what was dumped once on this node, before anybody else is to: in a container of its own, cut off from whatever the
 * source talks to. It is restored from the dump itself: its layers in their packed form would have to be unpacked below a new
 * chain first, base image included.
 */
import { closeSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  parseOrder,
  TRIAL_INDEX_FILE,
  TRIAL_LOSS_FILE,
  TRIAL_ORDER_FILE,
} from '../../../checkpoint/trial-files.ts';
import type { Addon } from '../../../native/index.ts';
import { Code, describeError } from '../../../proto/status.ts';
import { type Cleanup, checkInterrupted } from '../../cleanup.ts';
import type { Container, Containerd } from '../../containerd/index.ts';
import { CliError } from '../../error.ts';
import { RUNTIME_NAME } from '../find.ts';
import type { LayerDiff } from '../freeze.ts';
import type { LayerSplit } from '../layers.ts';
import { trimLowers } from '../rootfs.ts';
import type { Scratch } from '../scratch.ts';
import { ask } from './ask.ts';
import { memoryObstacle } from './memory.ts';
import type { Probe } from './probe.ts';
import { removeTrial } from './remove.ts';
import { trialOptions } from './runtime-options.ts';
import { bindMounts, type SourceSpec, trialObstacle, trialSpec } from './spec.ts';
import { throwAwayVolumes, type VolumeCalls } from './volumes.ts';

/** Without a probe it is enough that the process has lived so long. */
const SETTLE_MS = 2_000;
/** A probe may fail at first. */
const PROBE_MS = 60_000;
const AGAIN_MS = 100;

export type TrialCalls = VolumeCalls & Pick<Addon, 'networkNamespace' | 'loopbackUp' | 'connectInNamespace'>;

export interface TrialInput {
  /** Calls in the lease, cut short by the signal. */
  store: Containerd;
  /** Without lease and signal. */
  undo: Containerd;
  cleanup: Cleanup;
  signal: AbortSignal;
  /** Name of the trial's container and snapshot. */
  id: string;
  source: Container;
  split: LayerSplit;
  /** Chain IDs of the snapshot's parents, bottom first. */
  chain: readonly string[];
  diff: LayerDiff | null;
  scratch: Scratch;
  /** Index of the packed dump, without an order. */
  index: Uint8Array;
  probe: Probe | undefined;
  /** What the source's processes hold. */
  memoryBytes: bigint;
  calls: TrialCalls;
}

export type TrialResult =
  /** It was restored and answered, and touched these chunks in this order. */
  { kind: 'passed'; accessOrder: number[] } | { kind: 'impossible'; reason: string };

/** Rejects if it was tried and failed; whatever happens, nothing of it runs any more and the cleanup removes the rest. */
export async function tryRestore(input: TrialInput): Promise<TrialResult> {
  const spec = JSON.parse(input.source.spec.toString('utf8')) as SourceSpec;
  const obstacle = trialObstacle(spec) ?? (await memoryObstacle(input.memoryBytes));
  if (obstacle !== undefined) return { kind: 'impossible', reason: obstacle };
  const { calls, cleanup, id, undo, source } = input;
  const workPath = join(input.scratch.root, 'trial');
  await mkdir(workPath, { mode: 0o700 });
  await writeFile(join(workPath, TRIAL_INDEX_FILE), input.index, { mode: 0o600 });
  const volumes = await throwAwayVolumes(
    bindMounts(spec),
    join(input.scratch.root, 'volumes'),
    calls,
    cleanup,
  );
  if (volumes.kind === 'impossible') return volumes;
  const network = calls.networkNamespace();
  cleanup.add('close the network of the trial', async () => closeSync(network));
  const changes = { id, network: `/proc/${process.pid}/fd/${network}`, sources: volumes.sources };
  checkInterrupted(input.signal);
  // Before the first of it is made: a call that timed out may still take effect.
  const remove = cleanup.add(`remove the trial ${id}; try "ctr containers rm ${id}"`, () =>
    removeTrial(undo, source.snapshotter, id),
  );
  const pid = await start(input, trialSpec(spec, changes), workPath);
  raiseLoopback(pid, calls);
  await waitForAnswer(input, pid, spec);
  // With its end the shim writes down what was touched.
  await remove();
  return { kind: 'passed', accessOrder: await readOrder(join(workPath, TRIAL_ORDER_FILE)) };
}

/** A network that CRIU has made anew has it down (seen with 4.2). */
function raiseLoopback(pid: number, calls: TrialCalls): void {
  try {
    calls.loopbackUp(`/proc/${pid}/ns/net`);
  } catch (error) {
    // It may have ended already; how is told by whoever waits for it.
    if (describeError(error).code !== Code.notFound) throw error;
  }
}

async function start(input: TrialInput, spec: SourceSpec, workPath: string): Promise<number> {
  const { store, source, split, chain, diff, id, scratch } = input;
  const snapshots = store.snapshots(source.snapshotter);
  const mounts = await snapshots.prepare(id, chain.at(-1 - split.diff) ?? '');
  const rootfs = trimLowers(mounts, split.checkpoint, 0);
  if (diff !== null) await store.apply(diff.descriptor, rootfs);
  const { image, snapshotter } = source;
  // Without the labels of the source: whoever looks after its pod is not to find another container in it.
  await store.containers.create({
    id,
    labels: {},
    image,
    runtime: RUNTIME_NAME,
    snapshotter,
    snapshotKey: id,
    spec: Buffer.from(JSON.stringify(spec)),
  });
  await store.tasks.create(id, {
    rootfs,
    options: await trialOptions(source.runtimeOptions, { imagePath: scratch.images, workPath }),
    runtimePath: source.runtime.startsWith('/') ? source.runtime : undefined,
  });
  return store.tasks.start(id);
}

async function waitForAnswer(input: TrialInput, pid: number, spec: SourceSpec): Promise<void> {
  const { store, undo, id, probe, signal, calls } = input;
  const began = performance.now();
  const asked = { containerd: store, id, pid, process: spec.process ?? {}, calls };
  for (;;) {
    const wrong = probe && (await ask(probe, asked));
    checkInterrupted(signal);
    const { status, exitStatus } = await undo.tasks.get(id);
    const ms = performance.now() - began;
    if (status !== 'RUNNING')
      throw new CliError(
        Code.failedPrecondition,
        `its process ended with status ${exitStatus} within ${Math.ceil(ms / 1000)} s${await lossOf(input)}`,
      );
    if (probe ? wrong === undefined : ms >= SETTLE_MS) return;
    if (ms >= PROBE_MS)
      throw new CliError(
        Code.deadlineExceeded,
        `its probe did not pass within ${PROBE_MS / 1000} s: ${wrong}`,
      );
    await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Why the shim ended it, if it did. */
async function lossOf({ scratch }: TrialInput): Promise<string> {
  const reason = await readFile(join(scratch.root, 'trial', TRIAL_LOSS_FILE), 'utf8').catch(() => '');
  return reason && `: ${reason}`;
}

async function readOrder(path: string): Promise<number[]> {
  try {
    return parseOrder(await readFile(path, 'utf8'));
  } catch (error) {
    // A shim of the version before knows nothing of a record.
    if (describeError(error).code === Code.notFound) return [];
    throw error;
  }
}
