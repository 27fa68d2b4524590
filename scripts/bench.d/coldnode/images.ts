/** Images of the cold-node bench, all layers zstd: a worker's, and that of a node without thaw, with a checkpoint's files. */
import { createReadStream } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { zstdCompressSync } from 'node:zlib';
import { type BlobSource, RegistryClient } from '../../../checkpoint/registry/index.ts';
import { blob, busybox, type Entry, layer, run } from '../../../test/lib/index.ts';
import { notInImage } from '../../demo.d/image/build.ts';
import { type LayerSource, makeLayer } from '../../demo.d/image/layer.ts';
import { describeImage, type LayerFacts, layerMediaType } from '../../demo.d/image/oci.ts';

/** A layer that can be pushed again and again. */
export type PackedLayer = LayerFacts & BlobSource;

/** Where a root file system has a checkpoint's files. */
export const CHECKPOINT_DIR = 'checkpoint';

const limit = () => ({ signal: AbortSignal.timeout(900_000) });

export interface ImageRecipe {
  host: string;
  repository: string;
  tag: string;
  layers: readonly PackedLayer[];
  command: readonly string[];
  /** Besides PATH. */
  env?: Readonly<Record<string, string>>;
}

/** Pushes an image; its name. */
export async function pushImage({
  host,
  repository,
  tag,
  layers,
  command,
  env: more,
}: ImageRecipe): Promise<string> {
  const registry = new RegistryClient({ registry: host, plainHttp: true });
  try {
    const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...more };
    const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
    const { config, manifest } = describeImage(layers, { env, cmd: command }, architecture);
    const { digest, size, json } = config;
    for (const part of [...layers, { digest, size, open: () => Readable.from([json]) }])
      await registry.pushBlob(repository, part, limit());
    await registry.pushManifest(repository, tag, manifest.mediaType, manifest.json, limit());
    return `${host}/${repository}:${tag}`;
  } finally {
    await registry.close();
  }
}

export async function packEntries(made: string, entries: readonly Entry[]): Promise<PackedLayer> {
  const plain = await layer(entries);
  const { digest, bytes } = blob(layerMediaType, zstdCompressSync(plain.bytes));
  return { digest, size: bytes.length, diffId: plain.digest, made, open: () => Readable.from([bytes]) };
}

export function minimalBase(): Promise<PackedLayer> {
  return packEntries('busybox', busybox());
}

/** A Debian root, as the demo makes its image of it; `directory` gets the layer. */
export async function debianBase(root: string, directory: string): Promise<PackedLayer> {
  const newest = Math.floor((await stat(join(root, 'etc/debian_version'))).ctimeMs / 1000);
  return packDirectory('debian', { root, newest, exclude: notInImage, ownedByRoot: false }, directory);
}

/** The files of a checkpoint. Links to them and the layer lie in `directory`, on the same file system. */
export async function packCheckpoint(imagesDir: string, directory: string): Promise<PackedLayer> {
  const root = join(directory, 'root');
  await mkdir(join(root, CHECKPOINT_DIR), { recursive: true });
  try {
    const files = (await readdir(imagesDir)).map((name) => join(imagesDir, name));
    await run('ln', [...files, join(root, CHECKPOINT_DIR)]);
    return await packDirectory('checkpoint', { root, newest: 0, exclude: [], ownedByRoot: true }, directory);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** All below a folder, as a layer of its own. */
export function packFolder(root: string, directory: string): Promise<PackedLayer> {
  return packDirectory(root, { root, newest: 0, exclude: [], ownedByRoot: false }, directory);
}

async function packDirectory(made: string, source: LayerSource, directory: string): Promise<PackedLayer> {
  const { file, digest, size, diffId } = await makeLayer(source, directory);
  return { digest, size, diffId, made, open: () => createReadStream(file) };
}
