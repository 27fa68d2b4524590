import { createReadStream } from 'node:fs';
import { chmod, copyFile, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import type { RegistryClient } from '../../../checkpoint/registry/index.ts';
import { type Layer, makeLayer } from './layer.ts';
import { type Document, describeImage, type ImageSettings } from './oci.ts';

export interface BuiltImage {
  /** Bytes in the registry: manifest, configuration and layers. */
  bytes: number;
  /** Bytes of the layers' tars. */
  unpackedBytes: number;
}

export interface ImageRecipe {
  repository: string;
  tag: string;
  /** Debian root that becomes the first layer. */
  root: string;
  /** The second layer: path in the image → file here. */
  files: Record<string, string>;
  settings: ImageSettings;
  /** Folder for what is kept from run to run. */
  cache: string;
}

/** What debootstrap and apt leave behind that no container needs; of a mount point only the directory counts. */
export const notInImage = [
  'dev/*',
  'proc/*',
  'sys/*',
  'run/*',
  'tmp/*',
  'var/tmp/*',
  'var/cache/*',
  'var/log/*',
  'var/lib/apt/lists/*',
  'var/lib/dpkg/*-old',
  'debootstrap',
  'etc/resolv.conf',
  'etc/apt/apt.conf.d/90thaw',
  'usr/sbin/policy-rc.d',
];

const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';

/**
 * Pushes an image of two layers. The first is made once: while the registry holds it, only its facts (in `cache`)
 * are needed.
 */
export async function buildImage(registry: RegistryClient, recipe: ImageRecipe): Promise<BuiltImage> {
  const base = await baseLayer(registry, recipe);
  const app = await pushLayer(registry, recipe, await stageFiles(recipe));
  const layers = [
    { ...base, made: 'debootstrap and apt' },
    { ...app, made: Object.keys(recipe.files).join(' ') },
  ];
  const { config, manifest } = describeImage(layers, recipe.settings, architecture);
  await pushDocument(registry, recipe.repository, config);
  await registry.pushManifest(recipe.repository, recipe.tag, manifest.mediaType, manifest.json, limit(30));
  return {
    bytes: layers.reduce((sum, layer) => sum + layer.size, config.size + manifest.size),
    unpackedBytes: layers.reduce((sum, layer) => sum + layer.tarSize, 0),
  };
}

type Facts = Omit<Layer, 'file'>;

async function baseLayer(registry: RegistryClient, recipe: ImageRecipe): Promise<Facts> {
  const madeMs = (await stat(join(recipe.root, 'etc/debian_version'))).ctimeMs;
  const stamp = `${recipe.root} ${madeMs}`;
  const factsFile = join(recipe.cache, `${recipe.repository.replaceAll('/', '-')}.json`);
  const known = await readFacts(factsFile, stamp);
  if (
    known !== undefined &&
    (await registry.headBlob(recipe.repository, known.digest, limit(10))) === known.size
  )
    return known;
  const facts = await pushLayer(
    registry,
    recipe,
    await makeLayer(
      { root: recipe.root, newest: Math.floor(madeMs / 1000), exclude: notInImage, ownedByRoot: false },
      join(recipe.cache, 'blobs'),
    ),
  );
  await writeFile(factsFile, JSON.stringify({ stamp, facts }));
  return facts;
}

async function readFacts(file: string, stamp: string): Promise<Facts | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const known = JSON.parse(text) as { stamp: string; facts: Facts };
  return known.stamp === stamp ? known.facts : undefined;
}

async function stageFiles(recipe: ImageRecipe): Promise<Layer> {
  const root = join(recipe.cache, 'staging');
  await rm(root, { recursive: true, force: true });
  try {
    for (const [path, source] of Object.entries(recipe.files)) {
      const target = join(root, path);
      await mkdir(dirname(target), { recursive: true, mode: 0o755 });
      await copyFile(source, target);
      await chmod(target, 0o644);
    }
    return await makeLayer({ root, newest: 0, exclude: [], ownedByRoot: true }, join(recipe.cache, 'blobs'));
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** The blob lies in the registry afterwards and no longer here. */
async function pushLayer(registry: RegistryClient, recipe: ImageRecipe, layer: Layer): Promise<Facts> {
  const { file, ...facts } = layer;
  const open = () => createReadStream(file);
  await registry.pushBlob(recipe.repository, { digest: layer.digest, size: layer.size, open }, limit(900));
  await rm(file);
  return facts;
}

async function pushDocument(registry: RegistryClient, repository: string, document: Document): Promise<void> {
  const open = () => Readable.from([document.json]);
  await registry.pushBlob(repository, { digest: document.digest, size: document.size, open }, limit(30));
}

const limit = (seconds: number): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(seconds * 1000) });
