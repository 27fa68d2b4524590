/** Finds the checkpoint below a container's root file system and checks that it belongs there. */
import { isAbsolute, join } from 'node:path';
import { digestOf } from '../../checkpoint/digest.ts';
import { decodeIndex } from '../../checkpoint/index-format.ts';
import {
  buildIndexLayer,
  CHECKPOINT_JSON_NAME,
  INDEX_NAME,
  THAW_DIRECTORY,
} from '../../checkpoint/layer-layout.ts';
import { limits } from '../../checkpoint/limits.ts';
import { readCheckpointFacts } from '../../checkpoint/read-facts.ts';
import {
  type CacheEntry,
  LocalSource,
  type NodeCache,
  type OpenBeneath,
  readBeneath,
} from '../cache/index.ts';
import { chainOfName } from '../chain-id.ts';
import { failedPrecondition, invalidArgument, notFound } from '../error.ts';
import type { OverlaySnapshotter } from '../overlay/index.ts';
import { checkLayerCount, checkpointLayerLabels, type RemoteLayers } from '../remote/index.ts';
import type { Snapshot } from '../store/index.ts';
import { checkBase } from './base-check.ts';
import type { LayersOfContainer } from './containerd.ts';

export interface LocateOptions {
  snapshotter: OverlaySnapshotter;
  remote: RemoteLayers;
  cache: NodeCache;
  openBeneath: OpenBeneath;
  /** For containers whose layers another snapshotter keeps. */
  layersOfContainer: LayersOfContainer;
}

export interface LocateQuery {
  namespace: string;
  containerId: string;
  /** Lower directories of the overlay mount, topmost first. */
  lowerDirs: readonly string[];
}

/**
 * NOT_FOUND if there is no checkpoint, FAILED_PRECONDITION if the layers above it are not those it was taken on,
 * DATA_LOSS or INVALID_ARGUMENT if it cannot be trusted. Starts to bring it here, and does not wait for that.
 */
export async function locate(options: LocateOptions, query: LocateQuery): Promise<CacheEntry> {
  const { lowerDirs } = query;
  const bottom = lowerDirs.at(-1);
  if (bottom === undefined || !lowerDirs.every(isAbsolute))
    throw invalidArgument('Cannot look for a checkpoint: the lower directories must be absolute paths');
  const own = ownLayers(options.snapshotter, lowerDirs);
  const checkpoint = own?.at(-1)?.directory.checkpoint;
  return own && checkpoint !== undefined
    ? locateRemote(options, own, checkpoint)
    : locateUnpacked(options, query, bottom, own);
}

/** Checkpoint layers that were never unpacked. */
async function locateRemote(
  { remote }: LocateOptions,
  layers: readonly Snapshot[],
  id: string,
): Promise<CacheEntry> {
  const entry = await remote.open(id);
  const facts = readCheckpointFacts(entry.checkpoint.json, entry.checkpoint.index.checkpointJson);
  const labels = checkpointLayerLabels(layers.at(-1)?.labels ?? {});
  if (!labels)
    throw failedPrecondition(
      'Cannot use the checkpoint: its snapshot has lost its labels; pull the image again',
    );
  checkBase(
    { checkpoint: [labels.location.blob, ...entry.index.dataLayers.map((layer) => layer.digest)], facts },
    chainsOf(layers),
  );
  return entry;
}

/** A checkpoint image that some snapshotter unpacked as ordinary files. */
async function locateUnpacked(
  options: LocateOptions,
  query: LocateQuery,
  bottom: string,
  own: readonly Snapshot[] | undefined,
): Promise<CacheEntry> {
  const { cache, openBeneath, layersOfContainer } = options;
  const checkpointJson = await readThawFile(
    openBeneath,
    bottom,
    CHECKPOINT_JSON_NAME,
    limits.checkpointJsonBytes,
  );
  const indexBytes = await readThawFile(openBeneath, bottom, INDEX_NAME, limits.indexBytes);
  const index = decodeIndex(indexBytes);
  const facts = readCheckpointFacts(checkpointJson, index.checkpointJson);
  checkLayerCount(facts.layers.checkpoint, index.dataLayers.length);
  // The format fixes every byte of the index layer, so its digest can be had without its blob.
  const indexLayer = digestOf(buildIndexLayer(checkpointJson, indexBytes).bytes);
  const actual = own ? chainsOf(own) : await layersOfContainer(query.namespace, query.containerId);
  checkBase({ checkpoint: [indexLayer, ...index.dataLayers.map((layer) => layer.digest)], facts }, actual);
  const entry = await cache.add(digestOf(indexBytes), indexBytes, checkpointJson);
  const directories = query.lowerDirs.slice(0, -1).reverse().slice(0, index.dataLayers.length);
  entry.start(new LocalSource(directories, openBeneath));
  return entry;
}

async function readThawFile(
  openBeneath: OpenBeneath,
  directory: string,
  name: string,
  maxBytes: number,
): Promise<Buffer> {
  try {
    return await readBeneath(openBeneath, directory, join(THAW_DIRECTORY, name), maxBytes);
  } catch (cause) {
    const errno = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (errno === 'ENOENT' || errno === 'ENOTDIR')
      throw notFound(`No checkpoint lies in ${directory}`, { cause });
    throw cause;
  }
}

/**
 * The snapshots whose directories these are, topmost first; undefined if another snapshotter's are among them. Several
 * snapshots may share a directory, but what lies below tells them apart.
 */
function ownLayers(snapshotter: OverlaySnapshotter, lowerDirs: readonly string[]): Snapshot[] | undefined {
  const { store, directories } = snapshotter;
  const ids = lowerDirs.map((path) => {
    const id = Number(/\/([1-9][0-9]{0,14})\/fs$/.exec(path)?.[1]);
    return directories.fs(id) === path ? id : undefined;
  });
  const [top] = ids;
  if (top === undefined) return undefined;
  for (const snapshot of store.withDirectory(top)) {
    const layers = [snapshot, ...store.ancestors(snapshot.name)];
    if (layers.length === ids.length && layers.every(({ directory }, i) => directory.id === ids[i]))
      return layers;
  }
  return undefined;
}

function chainsOf(layers: readonly Snapshot[]): (string | undefined)[] {
  return layers.map(({ name }) => chainOfName(name)).reverse();
}
