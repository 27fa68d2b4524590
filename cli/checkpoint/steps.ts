import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { chainIds } from '../../checkpoint/chain-id.ts';
import { summarizeDump } from '../../checkpoint/criu/summary.ts';
import { packDataLayers } from '../../checkpoint/pack/index.ts';
import { parseReference, type Reference } from '../../checkpoint/registry/index.ts';
import { type Cleanup, checkInterrupted, ignoreMissing } from '../cleanup.ts';
import type { NodeOptions } from '../commands/handlers.ts';
import { createContainerd } from '../containerd/index.ts';
import type { Context } from '../context.ts';
import { usageError } from '../error.ts';
import type { Registries } from '../registry.ts';
import { formatBytes, formatRatio } from '../ui/format.ts';
import { type RunImage, runImageOf } from './base-image.ts';
import { pushBaseLayers } from './base-layers.ts';
import { findRunning } from './find.ts';
import { dumpFrozen, killFrozen } from './freeze.ts';
import { startGuard } from './guard.ts';
import { splitLayers } from './layers.ts';
import { mountsToCompare } from './mounts.ts';
import { publish } from './publish.ts';
import type { Saved } from './report.ts';
import { lowerCountOf } from './rootfs.ts';
import { checkSpace, dumpSpaceError, makeScratch, residentBytes } from './scratch.ts';
import type { Probe } from './trial/probe.ts';
import { verify } from './verify.ts';

/** Longer than any checkpoint takes; what a killed command leaves is collected after it. */
const LEASE_MS = 24 * 3_600_000;
const KILL_MS = 60_000;

/** When the container ends for good; without one it goes on. */
export type StopWhen = 'dumped' | 'pushed';

export interface SaveOptions extends NodeOptions {
  /** Its id, or the first characters of one. */
  container: string;
  /** Name of the image to push. */
  image: string;
  workDir: string;
  stop?: StopWhen | undefined;
  /** Restore it once on this node before it is published. */
  verify: boolean;
  /** How the restored one shows that it works. */
  probe?: Probe | undefined;
  /** The image that it runs from, where its layers are in the target repository already. */
  base?: RunImage | undefined;
  /** What the image says of when it was made; now if not given. */
  created?: Date | undefined;
}

/** The whole of `thaw checkpoint`; docs/cli.md says in which order and why. */
export async function saveContainer(
  options: SaveOptions,
  context: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<Saved> {
  const { progress, signal } = context;
  const { probe, stop } = options;
  const target = parseTarget(options.image);
  const finding = progress.step('Looking at the container');
  const containerd = await createContainerd(options);
  cleanup.add('close the connection to containerd', async () => containerd.close());
  const reading = containerd.within({ signal });
  const { container, pid, paused } = await findRunning(reading, options.container);
  const { id } = container;
  const lease = await reading.leases.create({ lifetimeMs: LEASE_MS, name: 'thaw-checkpoint' });
  cleanup.add(`delete the lease ${lease.id}`, () => ignoreMissing(containerd.leases.remove(lease.id)));
  const store = containerd.within({ lease: lease.id, signal });
  const snapshots = store.snapshots(container.snapshotter);
  const image =
    options.base ??
    (await runImageOf(store, container, (await snapshots.stat(container.snapshotKey)).parent));
  const split = await splitLayers(image, await snapshots.mounts(container.snapshotKey), async () =>
    lowerCountOf(await readFile(`/proc/${pid}/mountinfo`, 'utf8')),
  );
  const scratch = await makeScratch(options.workDir, cleanup);
  const memoryBytes = await residentBytes(await store.tasks.pids(id));
  await checkSpace(options.workDir, memoryBytes);
  finding.finish(`${id.slice(0, 13)} from ${image.reference}`);

  const client = registries.client(target.registry);
  let pushedBase = 0;
  if (options.base === undefined) {
    // First, as it needs nothing of the container: a registry that refuses costs it no pause.
    const step = progress.step('Pushing the base layers');
    pushedBase = await pushBaseLayers({
      store,
      registries,
      target,
      client,
      image,
      layers: split.base,
      step,
      signal,
    });
    step.finish(pushedBase === 0 ? 'the registry has them' : formatBytes(pushedBase));
  }

  const trial = `thaw-trial-${randomBytes(8).toString('hex')}`;
  const { snapshotter } = container;
  const guarded = { container: id, remove: scratch.root, trial, snapshotter, resume: !paused };
  await startGuard({ ...options, ...guarded }, cleanup);
  checkInterrupted(signal);
  const frozenAt = performance.now();
  const chain = chainIds(image.layers.map(({ diffId }) => diffId));
  const { diff, resume } = await dumpFrozen({
    containerd: store,
    undo: containerd,
    cleanup,
    progress,
    id,
    wasPaused: paused,
    ends: stop === 'dumped',
    signal,
    imagePath: scratch.images,
    workPath: scratch.work,
    mounts: () => mountsToCompare({ store, undo: containerd, cleanup, container, chain, split }),
    checkDump: async () => {
      await summarizeDump(scratch.images);
    },
    clearImages: async () => {
      await rm(scratch.images, { recursive: true, force: true });
      await mkdir(scratch.images, { mode: 0o700 });
    },
  }).catch(async (error: unknown) => {
    throw await dumpSpaceError(error, options.workDir);
  });
  if (stop === undefined) await resume();
  const pausedMs = performance.now() - frozenAt;
  // Its memory, and what else it had, is free for the trial.
  if (stop === 'dumped') await killFrozen(containerd, id, KILL_MS);

  const packing = progress.step('Packing');
  const packed = await packDataLayers({
    imagesDir: scratch.images,
    scratchDir: scratch.layers,
    signal,
    onProgress: ({ done, total }) => packing.update(done, total),
  });
  packing.finish(
    `${formatBytes(packed.fileBytes)} to ${formatBytes(packed.storedBytes)} (${formatRatio(packed.fileBytes, packed.storedBytes)})`,
  );
  const trialInput = { store, undo: containerd, cleanup, signal, id: trial, source: container, split, chain };
  const verified = await verify(
    {
      ...trialInput,
      diff,
      scratch,
      packed,
      lazy: image.lazy,
      probe,
      memoryBytes,
      skip: !options.verify,
      stop,
    },
    context,
  );
  const published = await publish({
    verified,
    store,
    client,
    target,
    containerName: container.labels['io.kubernetes.container.name'],
    engine: { name: 'containerd', version: await store.version() },
    image,
    split,
    scratch,
    packed,
    diff,
    created: options.created ?? new Date(),
    progress,
    signal,
  });
  if (stop === 'pushed') await killFrozen(containerd, id, KILL_MS);
  return {
    reference: options.image,
    digest: published.digest,
    container: id,
    facts: published.facts,
    stopped: stop !== undefined,
    verified: verified.kind === 'passed',
    checkpointLayers: packed.layers.length + 1,
    fileBytes: packed.fileBytes,
    decodedBytes: packed.decodedBytes,
    storedBytes: packed.storedBytes,
    diffBytes: diff === null ? undefined : Number(diff.descriptor.size),
    pushedBytes: pushedBase + published.pushedBytes,
    imageBytes: published.imageBytes,
    pausedMs: stop !== undefined || paused ? undefined : pausedMs,
    steps: progress.times,
  };
}

/** The image that is to be pushed. */
export function parseTarget(image: string): Reference {
  const target = parseReference(image);
  if (target.digest !== undefined || target.tag === undefined)
    throw usageError(`Cannot push to ${image}: name a tag, as the digest is not known before`);
  return target;
}
