/** An archive of another tool to a checkpoint image. */
import { createReadStream } from 'node:fs';
import { access, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ImageDir } from '../../checkpoint/criu/image-dir.ts';
import { readInventory } from '../../checkpoint/criu/inventory.ts';
import { summarizeDump } from '../../checkpoint/criu/summary.ts';
import { DUMP_FACTS_FILE } from '../../checkpoint/facts.ts';
import { hostFacts } from '../../checkpoint/host-facts.ts';
import { CHECKPOINT_LAYER_MEDIA_TYPE } from '../../checkpoint/layer-layout.ts';
import { packDataLayers } from '../../checkpoint/pack/index.ts';
import { Code } from '../../proto/status.ts';
import { lookUpBase } from '../build/base.ts';
import { pushBaseLayers } from '../checkpoint/base-layers.ts';
import type { LayerDiff } from '../checkpoint/freeze.ts';
import { publish } from '../checkpoint/publish.ts';
import { makeScratch, type Scratch } from '../checkpoint/scratch.ts';
import { parseTarget } from '../checkpoint/steps.ts';
import { type Cleanup, ignoreMissing } from '../cleanup.ts';
import type { ToImageOptions } from '../commands/handlers.ts';
import { type Containerd, createContainerd } from '../containerd/index.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import type { Registries } from '../registry.ts';
import { formatBytes } from '../ui/format.ts';
import { readArchiveFacts } from './archive-facts.ts';
import { writeDiffLayer } from './diff-layer.ts';
import { programVersions } from './program-versions.ts';
import { type ReadArchive, readArchive } from './read-archive.ts';
import { takeShm } from './shm-tar.ts';

const LEASE_MS = 24 * 3_600_000;
/** runc keeps where descriptors 0 to 2 led, and needs it to restore. crun writes it too. */
const DESCRIPTORS = 'descriptors.json';

export interface ConvertedImage {
  reference: string;
  digest: string;
  base: string;
  memoryBytes: number;
  storedBytes: number;
  pushedBytes: number;
  imageBytes: number;
}

export async function convertToImage(
  options: ToImageOptions,
  context: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<ConvertedImage> {
  const { progress, signal } = context;
  const target = parseTarget(options.image);
  const scratch = await makeScratch(options.workDir, cleanup);
  const diffPath = join(scratch.root, 'rootfs-diff');
  const shmPath = join(scratch.root, 'devshm');
  const reading = progress.step('Reading the archive', (await sizeOf(options.archive)) ?? 0);
  const archive = await readArchive({
    path: options.archive,
    imagesDir: scratch.images,
    diffPath,
    shmPath,
    signal,
    onProgress: (bytes) => reading.add(bytes),
  });
  await checkImages(archive, scratch);
  if (archive.volumes.length > 0 && !options.ignoreVolumes) throw volumesError(archive.volumes);
  const shm = archive.hasShm ? await takeShm(shmPath, scratch.images, signal) : undefined;
  for (const path of shm?.leftOut ?? [])
    context.warn(`/dev/shm/${path} is left out: it is neither a file, a directory nor a link`);
  const facts = readArchiveFacts(archive.documents, await hostFacts(await programVersions(context)));
  await writeFile(join(scratch.images, DUMP_FACTS_FILE), JSON.stringify(facts.dump), { mode: 0o600 });
  reading.finish(`${archive.images.length} files of CRIU, made by ${facts.engine}`);

  const containerd = await createContainerd(options);
  cleanup.add('close the connection to containerd', async () => containerd.close());
  const lease = await containerd
    .within({ signal })
    .leases.create({ lifetimeMs: LEASE_MS, name: 'thaw-convert' });
  cleanup.add(`delete the lease ${lease.id}`, () => ignoreMissing(containerd.leases.remove(lease.id)));
  const store = containerd.within({ lease: lease.id, signal });
  const { base } = await lookUpBase(store, registries, baseName(options.base, facts.imageName), signal);
  const pushing = progress.step('Pushing the base layers');
  const client = registries.client(target.registry);
  const common = { store, registries, target, client, signal };
  const pushedBase = await pushBaseLayers({ ...common, image: base, layers: base.layers, step: pushing });
  pushing.finish(pushedBase === 0 ? 'the registry has them' : formatBytes(pushedBase));

  const diff = await storeDiff(store, scratch, archive.hasDiff ? diffPath : undefined, facts.deleted, signal);
  const packing = progress.step('Packing');
  const packed = await packDataLayers({
    imagesDir: scratch.images,
    scratchDir: scratch.layers,
    signal,
    onProgress: ({ done, total }) => packing.update(done, total),
  });
  packing.finish(`${formatBytes(packed.fileBytes)} to ${formatBytes(packed.storedBytes)}`);
  const published = await publish({
    ...{ store, client, target, scratch, packed, diff, progress, signal },
    image: base,
    split: { base: base.layers, checkpoint: 0, diff: 0, unusedDiff: 0 },
    // A trial would run what the archive says, as root.
    verified: { kind: 'unverified', accessOrder: [], layerReads: [] },
    containerName: facts.containerName,
    engine: { name: facts.engine },
    created: new Date(),
  });
  return {
    reference: options.image,
    digest: published.digest,
    base: base.reference,
    memoryBytes: published.facts.memoryBytes,
    storedBytes: packed.storedBytes,
    pushedBytes: pushedBase + published.pushedBytes,
    imageBytes: published.imageBytes,
  };
}

function volumesError(names: readonly string[]): CliError {
  return new CliError(
    Code.failedPrecondition,
    `Cannot convert the archive: it holds what was in the volumes ${names.join(', ')}, and an image never does, as a pod has volumes of its own; give the pods volumes with that content, and convert with --ignore-volumes`,
  );
}

async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ size }) => size,
    () => undefined,
  );
}

function baseName(asked: string | undefined, said: string | undefined): string {
  const name = asked ?? said;
  if (name !== undefined && name !== '') return name;
  throw new CliError(
    Code.invalidArgument,
    'Cannot convert the archive: it does not say which image the container ran from; name it with --base',
  );
}

/** What cannot be restored is not to become an image. */
async function checkImages({ images }: ReadArchive, { images: dir }: Scratch): Promise<void> {
  if (images.length === 0)
    throw new CliError(
      Code.invalidArgument,
      'Cannot convert the archive: it has no folder "checkpoint" with files of CRIU in it',
    );
  await summarizeDump(dir);
  await using opened = await ImageDir.open(dir);
  const { plugins } = readInventory(await opened.read('inventory.img', 1 << 20));
  const refuse = (why: string) => {
    throw new CliError(Code.failedPrecondition, `Cannot convert the archive: ${why}`);
  };
  if (plugins.length > 0) refuse(`CRIU needs its plug-ins ${plugins.join(', ')} to restore it`);
  if (images.some((name) => /^tcp-stream-/.test(name)))
    refuse('open TCP connections were saved (--tcp-established), which have another address in another pod');
  await access(join(dir, DESCRIPTORS)).catch(() =>
    refuse(`it has no checkpoint/${DESCRIPTORS}, which runc and crun write and a restore needs`),
  );
}

async function storeDiff(
  store: Containerd,
  scratch: Scratch,
  source: string | undefined,
  deleted: readonly string[],
  signal: AbortSignal,
): Promise<LayerDiff | null> {
  if (source === undefined && deleted.length === 0) return null;
  const path = join(scratch.root, 'diff.tar');
  const layer = await writeDiffLayer(source, deleted, path, signal);
  if (layer === undefined) return null;
  const size = BigInt(layer.size);
  await store.content.write(
    { digest: layer.digest, size },
    createReadStream(path, { highWaterMark: 1 << 20 }),
  );
  const descriptor = { mediaType: CHECKPOINT_LAYER_MEDIA_TYPE, digest: layer.digest, size, annotations: {} };
  return { descriptor, diffId: layer.digest };
}
