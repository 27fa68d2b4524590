/** An image with lazy layers, made of one in a registry. */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buildBaseIndexLayer } from '../../checkpoint/lazy/index-layer.ts';
import { type ConvertedLayer, checkConvertible, composeLazyImage } from '../../checkpoint/lazy/lazy-image.ts';
import { MergedDirectories } from '../../checkpoint/lazy/merged-directories.ts';
import type { Descriptor, PulledImage, Reference, RegistryClient } from '../../checkpoint/registry/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { Cleanup } from '../cleanup.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { hostPlatform, type Registries } from '../registry.ts';
import { formatBytes } from '../ui/format.ts';
import { convertLayer } from './convert-layer.ts';
import type { ReadOrder } from './read-order.ts';
import { unpackLayer } from './unpack-layer.ts';

export interface Converted {
  digest: string;
  /** For each of the source's layers: its size now, and why it stayed as it is where it did. */
  layers: { size: number; kept?: string }[];
}

export interface ConvertImageOptions {
  source: Reference;
  /** Without a tag, the image is known by its digest alone. */
  target: Reference;
  workDir: string;
  /** What comes first on nodes; the beginning if not given. */
  order?: ReadOrder | undefined;
}

/** Pushes the image with lazy layers. INVALID_ARGUMENT if it cannot have any, or has some already. */
export async function convertImage(
  { source, target, workDir, order }: ConvertImageOptions,
  context: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<Converted> {
  const { signal } = context;
  const from = registries.client(source.registry);
  const to = registries.client(target.registry);
  const image = await from.image(source, hostPlatform(), { signal });
  checkConvertible(image.manifest);
  const scratch = await makeScratch(workDir, cleanup);
  const below = new MergedDirectories();
  const indexes: Uint8Array[] = [];
  const layers: ConvertedLayer[] = [];
  const told: Converted['layers'] = [];
  for (const [i, descriptor] of image.manifest.layers.entries()) {
    const diffId = image.config.rootfs.diff_ids[i] ?? '';
    const layer = { from, source, to, target, descriptor, diffId, order: order?.get(diffId) ?? [] };
    const step = context.progress.step(`Converting layer ${i + 1} of ${image.manifest.layers.length}`);
    try {
      const made = await convertOne(layer, below, scratch, signal, (bytes) => step.add(bytes));
      indexes.push(made.index);
      layers.push({ digest: made.digest, size: made.size });
      told.push({ size: made.size });
    } catch (error) {
      const { code, message } = describeError(error);
      if (code !== Code.invalidArgument) throw error;
      below.addUnknown();
      await copyBlob(layer, signal);
      layers.push(undefined);
      told.push({ size: descriptor.size, kept: message });
    }
    step.finish(formatBytes(told.at(-1)?.size ?? 0));
  }
  const digest = await publish(image, layers, indexes, { to, target }, signal);
  return { digest, layers: told };
}

interface Layer {
  from: RegistryClient;
  source: Reference;
  to: RegistryClient;
  target: Reference;
  descriptor: Descriptor;
  diffId: string;
  order: readonly number[];
}

async function convertOne(
  { from, source, to, target, descriptor, diffId, order }: Layer,
  below: MergedDirectories,
  scratch: string,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
): Promise<{ index: Uint8Array; digest: string; size: number }> {
  const tar = join(scratch, 'tar');
  const blob = join(scratch, 'blob');
  try {
    const bytes = await unpackLayer(
      { client: from, repository: source.repository, descriptor, diffId },
      tar,
      signal,
    );
    const made = await convertLayer({ path: tar, bytes, diffId, order }, below, blob, signal, onProgress);
    const { digest, size } = made;
    const open = () => createReadStream(blob, { highWaterMark: 1 << 20 });
    await to.pushBlob(target.repository, { digest, size, open }, { signal });
    below.add(made.tree);
    return made;
  } finally {
    for (const path of [tar, blob]) await rm(path, { force: true });
  }
}

async function copyBlob(
  { from, source, to, target, descriptor: { digest, size } }: Layer,
  signal: AbortSignal,
): Promise<void> {
  const open = () => Readable.from(from.readBlob(source.repository, { digest, size }, { signal }));
  const mountFrom = source.registry === target.registry ? source.repository : undefined;
  await to.pushBlob(target.repository, { digest, size, open }, { signal, mountFrom });
}

/** The manifest last, so that the name never points to an image whose blobs are not all there. */
async function publish(
  image: PulledImage,
  layers: readonly ConvertedLayer[],
  indexes: readonly Uint8Array[],
  { to, target }: Pick<Layer, 'to' | 'target'>,
  signal: AbortSignal,
): Promise<string> {
  if (indexes.length === 0)
    throw new CliError(
      Code.invalidArgument,
      'Cannot convert the image: none of its layers can be read on demand',
    );
  const index = buildBaseIndexLayer(indexes);
  const { config, manifest } = composeLazyImage(image, layers, index);
  for (const { digest, bytes } of [index, { ...config.descriptor, bytes: config.bytes }]) {
    const open = () => Readable.from([bytes]);
    await to.pushBlob(target.repository, { digest, size: bytes.length, open }, { signal });
  }
  const { digest, mediaType } = manifest.descriptor;
  await to.pushManifest(target.repository, target.tag ?? digest, mediaType, manifest.bytes, { signal });
  return digest;
}

async function makeScratch(workDir: string, cleanup: Cleanup): Promise<string> {
  const path = join(workDir, `convert-${randomBytes(8).toString('hex')}`);
  cleanup.add(`remove ${path}`, () => rm(path, { recursive: true, force: true }));
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new CliError(
      describeError(cause).code,
      `Cannot make a working directory below ${workDir}: name another with --work-dir`,
      { cause },
    );
  }
  return path;
}
