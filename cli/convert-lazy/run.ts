/** `thaw convert --lazy`: an image whose layers a thaw node reads on demand, and every other node as any image. */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buildBaseIndexLayer } from '../../checkpoint/lazy/index-layer.ts';
import { type ConvertedLayer, checkConvertible, composeLazyImage } from '../../checkpoint/lazy/lazy-image.ts';
import { MergedDirectories } from '../../checkpoint/lazy/merged-directories.ts';
import {
  type Descriptor,
  formatReference,
  type PulledImage,
  parseReference,
  type Reference,
  type RegistryClient,
} from '../../checkpoint/registry/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import { Cleanup } from '../cleanup.ts';
import type { ConvertLazyOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { hostPlatform, Registries } from '../registry.ts';
import { formatBytes } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { convertLayer } from './convert-layer.ts';
import { unpackLayer } from './unpack-layer.ts';

interface Converted {
  digest: string;
  /** For each of the source's layers: its size now, and why it stayed as it is where it did. */
  layers: { size: number; kept?: string }[];
}

export async function runConvertLazy(options: ConvertLazyOptions, context: Context): Promise<void> {
  const cleanup = new Cleanup();
  const registries = new Registries(options, context.env);
  cleanup.add('close the registry connections', () => registries.close());
  const target = parseReference(options.target);
  try {
    const { digest, layers } = await convert(options, target, context, cleanup, registries);
    const reference = formatReference(target);
    for (const [i, { kept }] of layers.entries())
      if (kept !== undefined) context.warn(`warning: layer ${i} stays as it is: ${kept}`);
    const lazy = layers.filter(({ kept }) => kept === undefined).length;
    const bytes = layers.reduce((sum, { size }) => sum + size, 0);
    if (options.json) context.print(toJson({ image: reference, digest, layers }));
    else
      context.print(
        `${reference}@${digest}: ${lazy} of ${layers.length} layers on demand, ${formatBytes(bytes)}`,
      );
  } finally {
    context.progress.abandon();
    for (const { message } of await cleanup.run()) context.warn(`warning: ${message}`);
  }
}

async function convert(
  options: ConvertLazyOptions,
  target: Reference,
  context: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<Converted> {
  const { signal } = context;
  const source = parseReference(options.source);
  const from = registries.client(source.registry);
  const to = registries.client(target.registry);
  const image = await from.image(source, hostPlatform(), { signal });
  checkConvertible(image.manifest);
  const scratch = await makeScratch(options.workDir, cleanup);
  const below = new MergedDirectories();
  const indexes: Uint8Array[] = [];
  const layers: ConvertedLayer[] = [];
  const told: Converted['layers'] = [];
  for (const [i, descriptor] of image.manifest.layers.entries()) {
    const layer = { from, source, to, target, descriptor, diffId: image.config.rootfs.diff_ids[i] ?? '' };
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
}

async function convertOne(
  { from, source, to, target, descriptor, diffId }: Layer,
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
    const made = await convertLayer({ path: tar, bytes, diffId }, below, blob, signal, onProgress);
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
