/** The image that a node without thaw would get: the base, and a checkpoint's files as an ordinary zstd layer. */
import { createReadStream } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { zstdCompressSync } from 'node:zlib';
import { RegistryClient } from '../../../checkpoint/registry/index.ts';
import { type Blob, blob, run } from '../../../test/lib/index.ts';
import { makeLayer } from '../../demo.d/image/layer.ts';
import { describeImage, type LayerFacts, layerMediaType } from '../../demo.d/image/oci.ts';

/** Where its root file system has the files. */
export const CHECKPOINT_DIR = 'checkpoint';

const limit = () => ({ signal: AbortSignal.timeout(900_000) });

export interface PeerImage {
  host: string;
  repository: string;
  tag: string;
  /** Uncompressed layers of the base image. */
  base: readonly Blob[];
  command: readonly string[];
  /** Folder of CRIU's images; links are made beside it. */
  imagesDir: string;
}

/** Pushes it; its name. */
export async function pushPeerImage(image: PeerImage): Promise<string> {
  const registry = new RegistryClient({ registry: image.host, plainHttp: true });
  try {
    const layers: LayerFacts[] = [];
    for (const layer of image.base) {
      const packed = blob(layerMediaType, zstdCompressSync(layer.bytes));
      await pushBytes(registry, image.repository, packed);
      layers.push({ digest: packed.digest, size: packed.bytes.length, diffId: layer.digest, made: 'base' });
    }
    layers.push(await pushCheckpoint(registry, image));
    const settings = {
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
      cmd: image.command,
    };
    const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
    const { config, manifest } = describeImage(layers, settings, architecture);
    await pushBytes(registry, image.repository, { ...config, bytes: config.json });
    await registry.pushManifest(image.repository, image.tag, manifest.mediaType, manifest.json, limit());
    return `${image.host}/${image.repository}:${image.tag}`;
  } finally {
    await registry.close();
  }
}

async function pushBytes(registry: RegistryClient, repository: string, part: Blob): Promise<void> {
  const open = () => Readable.from([part.bytes]);
  await registry.pushBlob(repository, { digest: part.digest, size: part.bytes.length, open }, limit());
}

async function pushCheckpoint(registry: RegistryClient, image: PeerImage): Promise<LayerFacts> {
  const stage = `${image.imagesDir}-stage`;
  const root = join(stage, 'root');
  await mkdir(join(root, CHECKPOINT_DIR), { recursive: true });
  try {
    // Links instead of copies: a checkpoint is large.
    const files = (await readdir(image.imagesDir)).map((name) => join(image.imagesDir, name));
    await run('ln', [...files, join(root, CHECKPOINT_DIR)]);
    const source = { root, newest: 0, exclude: [], ownedByRoot: true };
    const { file, digest, size, diffId } = await makeLayer(source, join(stage, 'blobs'));
    const open = () => createReadStream(file);
    await registry.pushBlob(image.repository, { digest, size, open }, limit());
    return { digest, size, diffId, made: 'checkpoint' };
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}
