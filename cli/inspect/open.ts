import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { INDEX_ANNOTATION, type IndexLocation, parseIndexAnnotation } from '../../checkpoint/annotation.ts';
import { digestOf } from '../../checkpoint/digest.ts';
import type { CheckpointFacts } from '../../checkpoint/facts.ts';
import { type CheckpointIndex, decodeIndex, openIndex } from '../../checkpoint/index-format.ts';
import { CHECKPOINT_JSON_NAME, INDEX_NAME, THAW_DIRECTORY } from '../../checkpoint/layer-layout.ts';
import { limits } from '../../checkpoint/limits.ts';
import { type LayerSource, openUnpackedLayers } from '../../checkpoint/pack/index.ts';
import { readCheckpointFacts } from '../../checkpoint/read-facts.ts';
import type { Manifest, RegistryClient } from '../../checkpoint/registry/index.ts';
import { parseReference } from '../../checkpoint/registry/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import { hostPlatform } from '../registry.ts';
import { registryLayers } from './registry-layers.ts';

export type LayerKind = 'index' | 'data' | 'base' | 'diff' | 'above';

export interface ImageLayer {
  kind: LayerKind;
  digest: string;
  mediaType: string;
  size: number;
}

/** A checkpoint whose index and facts were read and checked; its chunks were not. */
export interface OpenCheckpoint {
  source: string;
  index: CheckpointIndex;
  indexDigest: string;
  indexBytes: number;
  facts: CheckpointFacts;
  /** Undefined for an unpacked one. */
  image: { digest: string; layers: ImageLayer[] } | undefined;
  /** Where its chunks lie, for who checks them. */
  openLayers(signal: AbortSignal): Promise<LayerSource>;
}

export async function openFromRegistry(
  client: RegistryClient,
  reference: string,
  signal: AbortSignal,
): Promise<OpenCheckpoint> {
  const parsed = parseReference(reference);
  const { repository } = parsed;
  const { descriptor, manifest } = await client.image(parsed, hostPlatform(), { signal });
  const location = indexLocationOf(manifest, reference);
  const read = async (offset: number, length: number) => {
    const parts: Buffer[] = [];
    for await (const part of client.readRange(repository, location.blob, offset, length, { signal }))
      parts.push(Buffer.from(part));
    return Buffer.concat(parts);
  };
  const index = openIndex(await read(location.offset, location.length), location);
  const { offset, length } = index.checkpointJson;
  const facts = readCheckpointFacts(await read(offset, length), index.checkpointJson);
  return {
    source: reference,
    index,
    indexDigest: location.digest,
    indexBytes: location.length,
    facts,
    image: { digest: descriptor.digest, layers: layersOf(manifest, index, facts) },
    openLayers: async (stop) => registryLayers(client, repository, index.dataLayers, stop),
  };
}

function indexLocationOf(manifest: Manifest, reference: string): IndexLocation {
  const text = manifest.layers[0]?.annotations?.[INDEX_ANNOTATION];
  if (text === undefined)
    throw new CliError(
      Code.failedPrecondition,
      `${reference} is an ordinary image, not a checkpoint: 'thaw checkpoint' makes one from a running container`,
    );
  return parseIndexAnnotation(text);
}

/** Every checkpoint layer of the manifest must be the one that the index names. */
function layersOf(manifest: Manifest, index: CheckpointIndex, facts: CheckpointFacts): ImageLayer[] {
  const { checkpoint, base, diff } = facts.layers;
  const named = [undefined, ...index.dataLayers.map(({ digest }) => digest)];
  if (checkpoint !== named.length)
    throw broken(`checkpoint.json names ${checkpoint} checkpoint layers, the index ${named.length}`);
  const layers = manifest.layers.map((layer, at): ImageLayer => {
    const kind = kindOf(at, checkpoint, base.length, diff !== null);
    if (kind === 'data' && layer.digest !== named[at])
      throw broken(`layer ${at} is not the data layer that the index names`);
    return { kind, digest: layer.digest, mediaType: layer.mediaType, size: layer.size };
  });
  if (layers.length < checkpoint + base.length) throw broken('the manifest lacks layers');
  return layers;
}

function kindOf(at: number, checkpoint: number, base: number, hasDiff: boolean): LayerKind {
  if (at === 0) return 'index';
  if (at < checkpoint) return 'data';
  if (at < checkpoint + base) return 'base';
  return hasDiff && at === checkpoint + base ? 'diff' : 'above';
}

/** A directory with `.thaw/` in it. Whatever is in it is untrusted. */
export async function openFromDirectory(directory: string): Promise<OpenCheckpoint> {
  const root = join(directory, THAW_DIRECTORY);
  const indexBytes = await readSmallFile(join(root, INDEX_NAME), limits.indexBytes);
  const index = decodeIndex(indexBytes);
  const json = await readSmallFile(join(root, CHECKPOINT_JSON_NAME), limits.checkpointJsonBytes);
  return {
    source: directory,
    index,
    indexDigest: digestOf(indexBytes),
    indexBytes: indexBytes.length,
    facts: readCheckpointFacts(json, index.checkpointJson),
    image: undefined,
    openLayers: () => openUnpackedLayers(index.dataLayers.map(() => directory)),
  };
}

async function readSmallFile(path: string, maxBytes: number): Promise<Buffer> {
  const file = await openRegular(path);
  try {
    const { size } = await file.stat();
    if (size > maxBytes) throw broken(`${path} has ${size} bytes`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

/** A link could lead anywhere on this machine, a fifo would block. */
async function openRegular(path: string): Promise<FileHandle> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((error: unknown) => {
    const { code } = describeError(error);
    throw new CliError(
      code,
      `Cannot read ${path}: name a directory that an unpacked checkpoint image lies in`,
      { cause: error },
    );
  });
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw broken(`${path} is not a regular file`);
}

function broken(why: string): CliError {
  return new CliError(Code.dataLoss, `Cannot trust this checkpoint: ${why}`);
}
