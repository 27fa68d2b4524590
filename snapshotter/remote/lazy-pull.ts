/**
 * Layers of a lazy base, which are mounted instead of unpacked: docs/image-format.md, "Lazy base layers". The index layer
 * is read whole and checked; what it says of the layers above counts because their chain IDs name it.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { digestOf } from '../../checkpoint/digest.ts';
import { decodeLayerIndex } from '../../checkpoint/lazy/layer-index.ts';
import type { BlobSource, CacheEntry, NodeCache } from '../cache/index.ts';
import { chainId, chainOfName } from '../chain-id.ts';
import { dataLoss, failedPrecondition } from '../error.ts';
import type { OverlaySnapshotter } from '../overlay/index.ts';
import type { Labels } from '../store/index.ts';
import type { LayerLabels } from './labels.ts';

export interface LazyPullOptions {
  snapshotter: OverlaySnapshotter;
  cache: NodeCache;
  openSource: (imageRef: string) => BlobSource;
  indexTimeoutMs: number;
  mountLayer: (entry: CacheEntry, directory: string) => Promise<void>;
  start: (entry: CacheEntry) => void;
  log: Logger;
}

/** Beside `fs`: of the index layer all of it, of a lazy layer its own index. */
const INDEXES_FILE = 'indexes';
const INDEX_FILE = 'index';

export class LazyPull {
  readonly #options: LazyPullOptions;

  constructor(options: LazyPullOptions) {
    this.#options = options;
  }

  /** Commits `target`. FAILED_PRECONDITION, DATA_LOSS or UNAVAILABLE for a layer that containerd has to unpack. */
  async make(
    layer: LayerLabels,
    target: string,
    parent: string,
    labels: Labels,
    signal: AbortSignal,
  ): Promise<void> {
    const started = performance.now();
    const isIndex = layer.location.digest === layer.location.blob;
    if (isIndex) await this.#makeIndexLayer(layer, target, parent, labels, signal);
    else await this.#makeLayer(layer, target, parent, labels);
    const ms = Math.round(performance.now() - started);
    const { imageRef, layerDigest } = layer;
    this.#options.log.info({ image: imageRef, layer: layerDigest, isIndex, ms }, 'layer is lazy');
  }

  async #makeIndexLayer(
    { location, layerDigest, imageRef }: LayerLabels,
    target: string,
    parent: string,
    labels: Labels,
    signal: AbortSignal,
  ): Promise<void> {
    const { snapshotter, openSource, indexTimeoutMs } = this.#options;
    if (layerDigest !== location.blob || chainId(chainOfName(parent), location.blob) !== target)
      throw failedPrecondition(
        'Cannot take the layer as it is: it is not the index layer that it says it is',
      );
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(indexTimeoutMs)]);
    const bytes = await readWhole(openSource(imageRef), location, bounded);
    await snapshotter.createReady({
      name: target,
      parent,
      labels,
      content: { kind: 'plain', files: { [INDEXES_FILE]: bytes } },
    });
  }

  async #makeLayer(
    { location, layerDigest }: LayerLabels,
    target: string,
    parent: string,
    labels: Labels,
  ): Promise<void> {
    const { snapshotter, cache, mountLayer, start } = this.#options;
    const indexBytes = await this.#indexBelow(parent, location);
    const { dataLayers, diffId } = decodeLayerIndex(indexBytes);
    if (dataLayers[0]?.digest !== layerDigest || chainId(chainOfName(parent), diffId) !== target)
      throw failedPrecondition('Cannot take the layer as it is: its index is that of another one');
    const entry = await cache.addLayer(location.digest, indexBytes);
    entry.prefer(this.#readFirst(parent, location.digest));
    await snapshotter.createReady({
      name: target,
      parent,
      labels,
      content: {
        kind: 'lazy',
        layer: location.digest,
        files: { [INDEX_FILE]: indexBytes },
        mount: (directory) => mountLayer(entry, directory),
      },
    });
    start(entry);
  }

  /** What a restore of the checkpoint below, if there is one, read of the layer: in that order it comes first. */
  #readFirst(parent: string, layer: string): readonly number[] {
    if (parent === '') return [];
    const { store } = this.#options.snapshotter;
    for (const { directory } of [store.get(parent), ...store.ancestors(parent)]) {
      const content = this.#options.cache.find(directory.checkpoint ?? '')?.content;
      if (content?.kind !== 'checkpoint') continue;
      return content.index.layerReads.find((reads) => reads.layer === layer)?.frames ?? [];
    }
    return [];
  }

  /** The layer's index, out of the index layer that its chain names. */
  async #indexBelow(
    parent: string,
    { blob, offset, length, digest }: LayerLabels['location'],
  ): Promise<Uint8Array> {
    const { store, directories } = this.#options.snapshotter;
    const below = parent === '' ? [] : [store.get(parent), ...store.ancestors(parent)];
    const indexLayer = below.find(
      (snapshot) => chainId(chainOfName(snapshot.parent), blob) === chainOfName(snapshot.name),
    );
    if (!indexLayer)
      throw failedPrecondition(
        'Cannot take the layer as it is: the layer with its index does not lie below it',
      );
    const path = join(dirname(directories.fs(indexLayer.directory.id)), INDEXES_FILE);
    const indexes = await readFile(path).catch((cause: unknown) => {
      throw failedPrecondition('Cannot take the layer as it is: the layer with its index was unpacked', {
        cause,
      });
    });
    const bytes = indexes.subarray(offset, offset + length);
    if (digestOf(bytes) !== digest) throw dataLoss('Cannot trust the index of the layer: its digest differs');
    return bytes;
  }
}

async function readWhole(
  source: BlobSource,
  { blob, length }: LayerLabels['location'],
  signal: AbortSignal,
): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let received = 0;
  for await (const piece of source.read({ digest: blob, dataLayer: undefined }, 0, length, signal)) {
    if (received + piece.byteLength > length) break;
    bytes.set(piece, received);
    received += piece.byteLength;
  }
  if (received !== length || digestOf(bytes) !== blob)
    throw dataLoss('Cannot trust the indexes of the layers: their digest differs');
  return bytes;
}
