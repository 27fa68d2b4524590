/** From a packed dump to an image in the registry: index layer, manifest, and everything the manifest names. */
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { summarizeDump } from '../../checkpoint/criu/summary.ts';
import {
  type CheckpointFacts,
  DUMP_FACTS_FILE,
  type DumpFacts,
  dumpFactsSchema,
  type LayerFacts,
} from '../../checkpoint/facts.ts';
import { type ComposedImage, composeImage } from '../../checkpoint/image.ts';
import { limits } from '../../checkpoint/limits.ts';
import { mergeFacts } from '../../checkpoint/merge-facts.ts';
import { type PackedData, type PackedIndex, packIndexLayer } from '../../checkpoint/pack/index.ts';
import type { BlobSource, Reference, RegistryClient } from '../../checkpoint/registry/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { Containerd } from '../containerd/index.ts';
import { CliError } from '../error.ts';
import { inParallel } from '../parallel.ts';
import { formatBytes } from '../ui/format.ts';
import type { Progress } from '../ui/progress.ts';
import type { RunImage } from './base-image.ts';
import type { LayerDiff } from './freeze.ts';
import type { LayerSplit } from './layers.ts';
import type { Scratch } from './scratch.ts';
import type { Verified } from './verify.ts';

/** Blobs sent at a time. */
const PARALLEL = 4;

export interface PublishOptions {
  verified: Verified;
  store: Containerd;
  client: RegistryClient;
  target: Reference;
  /** As the platform names it. */
  containerName: string | undefined;
  /** What dumped it. */
  engine: { name: string; version?: string | undefined };
  image: RunImage;
  split: LayerSplit;
  scratch: Scratch;
  packed: PackedData;
  diff: LayerDiff | null;
  created: Date;
  progress: Progress;
  signal: AbortSignal;
}

export interface Published {
  digest: string;
  facts: CheckpointFacts;
  pushedBytes: number;
  /** All layers of the image, the base included. */
  imageBytes: number;
}

export async function publish(options: PublishOptions): Promise<Published> {
  const { client, target, progress, signal, split, packed } = options;
  const diff = diffLayer(options.diff);
  const { composed, index, facts } = await describe(options, diff);
  const { config, manifest } = composed;
  const own = ownBlobs(options, index, composed);
  const total = own.reduce((sum, { size }) => sum + size, 0);
  const step = progress.step('Pushing the checkpoint', total);
  const sent = new Map<string, number>();
  await inParallel(own, PARALLEL, signal, async (blob, stop) => {
    const outcome = await client.pushBlob(target.repository, blob, {
      signal: stop,
      onProgress: (bytes) => {
        sent.set(blob.digest, bytes);
        step.update([...sent.values()].reduce((sum, size) => sum + size, 0));
      },
    });
    if (outcome !== 'uploaded') sent.delete(blob.digest);
  });
  const { mediaType, digest } = manifest.descriptor;
  // Last, so that the name never points to an image whose blobs are not all there.
  await client.pushManifest(target.repository, target.tag ?? digest, mediaType, manifest.bytes, { signal });
  const pushedBytes = [...sent.values()].reduce((sum, size) => sum + size, 0);
  step.finish(formatBytes(pushedBytes));
  const layers = [index, ...packed.layers, ...split.base, ...(diff ? [diff] : [])];
  const imageBytes = layers.reduce((sum, { size }) => sum + size, config.descriptor.size);
  return { digest, facts, pushedBytes, imageBytes };
}

async function describe(
  { containerName, engine, image, split, scratch, packed, verified, created }: PublishOptions,
  diff: LayerFacts | null,
): Promise<{ composed: ComposedImage; index: PackedIndex; facts: CheckpointFacts }> {
  const facts = mergeFacts({
    dump: await readDumpFacts(join(scratch.images, DUMP_FACTS_FILE)),
    created: created.toISOString(),
    image: { reference: image.reference, configDigest: image.configDigest },
    dataLayers: packed.layers.length,
    base: split.base,
    diff,
    summary: await summarizeDump(scratch.images),
    engine,
    verified: verified.kind === 'passed',
    containerName,
  });
  const index = await packIndexLayer(scratch.layers, packed, facts, verified);
  const composed = composeImage({
    config: image.config,
    baseStart: split.checkpoint,
    base: split.base,
    lazy: image.lazy,
    diff,
    index,
    data: packed.layers,
    facts,
  });
  return { composed, index, facts };
}

/** What the shim left beside the dump. */
async function readDumpFacts(path: string): Promise<DumpFacts> {
  try {
    const bytes = await readFile(path);
    if (bytes.length > limits.checkpointJsonBytes) throw new Error(`it has ${bytes.length} bytes`);
    return dumpFactsSchema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw new CliError(
      describeError(error).code === Code.notFound ? Code.failedPrecondition : Code.dataLoss,
      'Cannot use the dump: the shim did not describe it; the container was started by another version of thaw, so start it again',
      { cause: error },
    );
  }
}

function diffLayer(diff: LayerDiff | null): LayerFacts | null {
  if (diff === null) return null;
  const { digest, mediaType, size } = diff.descriptor;
  return { digest, mediaType, size: Number(size), diffId: diff.diffId };
}

/** What is made here; the base layers are in the repository already. */
function ownBlobs(
  { store, packed, diff }: PublishOptions,
  index: PackedIndex,
  { config }: ComposedImage,
): BlobSource[] {
  const files = [...packed.layers, index].map(({ path, digest, size }) => ({
    digest,
    size,
    open: () => createReadStream(path, { highWaterMark: 1 << 20 }),
  }));
  const layer = diffLayer(diff);
  return [
    ...files,
    ...(layer
      ? [
          {
            digest: layer.digest,
            size: layer.size,
            open: () => Readable.from(store.content.read(layer.digest)),
          },
        ]
      : []),
    {
      digest: config.descriptor.digest,
      size: config.descriptor.size,
      open: () => Readable.from([config.bytes]),
    },
  ];
}
