/**
 * Remote layers: makes snapshots of layers that containerd then neither downloads nor unpacks, and opens the checkpoints
 * that they stand for. Called by daemon.ts for Prepare and by checkpoints/ to find a checkpoint again.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { readCheckpointFacts } from '../../checkpoint/read-facts.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { BlobSource, CacheEntry, NodeCache } from '../cache/index.ts';
import { chainOfName } from '../chain-id.ts';
import { failedPrecondition, notFound, SnapshotError } from '../error.ts';
import type { LayerMount } from '../layers/index.ts';
import type { OverlaySnapshotter } from '../overlay/index.ts';
import type { Labels, Snapshot } from '../store/index.ts';
import { fetchIndex } from './index-fetch.ts';
import {
  type CheckpointLayerLabels,
  checkpointLayerLabels,
  lazyLayerLabels,
  TARGET_LABEL,
} from './labels.ts';
import { layerPosition } from './layer-position.ts';
import { LazyPull } from './lazy-pull.ts';
import { learnLayers, shareLayer } from './shared-layers.ts';

export { checkLayerCount } from './index-fetch.ts';
export { checkpointLayerLabels, IMAGE_REF_LABEL, TARGET_LABEL } from './labels.ts';

export interface RemoteLayersOptions {
  snapshotter: OverlaySnapshotter;
  cache: NodeCache;
  /** The repository of an image, to read its blobs from. */
  openSource: (imageRef: string) => BlobSource;
  /** Longest time for the index: containerd's call has no deadline of its own. */
  indexTimeoutMs: number;
  log: Logger;
  /** Mounts a lazy layer. */
  mountLayer: (entry: CacheEntry, directory: string) => Promise<void>;
  /** An index could not be had; its layers are left to containerd. */
  onIndexFailed?: ((error: unknown) => void) | undefined;
}

/** Copies beside `fs` of a remote snapshot: what it stands for. */
const JSON_FILE = 'checkpoint.json';
const INDEX_FILE = 'index';

export class RemoteLayers {
  readonly #options: RemoteLayersOptions;
  readonly #lazy: LazyPull;

  constructor(options: RemoteLayersOptions) {
    this.#options = options;
    this.#lazy = new LazyPull({ ...options, start: (entry) => this.#startIfIdle(entry) });
  }

  /**
   * Whether a committed snapshot now stands for the layer that the labels name. If not, for whatever reason, an
   * ordinary Prepare follows and containerd downloads and unpacks the layer.
   */
  async provide(parent: string, labels: Labels, signal: AbortSignal): Promise<boolean> {
    const { snapshotter, log } = this.#options;
    const target = labels[TARGET_LABEL];
    if (!target) return false;
    try {
      if (this.#isReady(target, parent)) {
        this.#resume(snapshotter.stat(target));
        return true;
      }
      const lazy = lazyLayerLabels(labels);
      if (lazy) {
        await this.#lazy.make(lazy, target, parent, labels, signal);
        return true;
      }
      const layer = checkpointLayerLabels(labels);
      if (!layer) return await shareLayer(snapshotter, target, parent, labels);
      await this.#make(layer, target, parent, labels, signal);
      return true;
    } catch (error) {
      // Another namespace's pull made it meanwhile.
      const { code, message, context } = describeError(error);
      if (code === Code.alreadyExists && this.#isReady(target, parent)) return true;
      log.warn({ target, parent, error: message, ...context }, 'layer left to containerd');
      return false;
    }
  }

  /**
   * The entry of a checkpoint that snapshots of this node stand for, fetching unless it is complete. NOT_FOUND if no
   * snapshot does.
   */
  async open(id: string): Promise<CacheEntry> {
    const { cache, snapshotter } = this.#options;
    const known = cache.find(id);
    if (known) {
      this.#startIfIdle(known);
      return known;
    }
    for (const { directory } of snapshotter.store.withCheckpoint(id)) {
      const beside = dirname(snapshotter.directories.fs(directory.id));
      const indexBytes = await readFile(join(beside, INDEX_FILE)).catch(() => undefined);
      if (!indexBytes) continue;
      const entry = await cache.add(id, indexBytes, await readFile(join(beside, JSON_FILE)));
      this.#startIfIdle(entry);
      return entry;
    }
    throw notFound(`No snapshot on this node stands for checkpoint ${id}; pull its image again`);
  }

  /**
   * Lazy layers of this node's snapshots with the directories that they are to be mounted on, fetching unless they are
   * complete. One that cannot be had is lost.
   */
  async lazyLayers(): Promise<LayerMount[]> {
    const { snapshotter, cache, log } = this.#options;
    const found: LayerMount[] = [];
    for (const { directory, name } of snapshotter.store.lazyLayers()) {
      const id = directory.layer ?? '';
      const fs = snapshotter.directories.fs(directory.id);
      try {
        const entry =
          cache.find(id) ?? (await cache.addLayer(id, await readFile(join(dirname(fs), INDEX_FILE))));
        this.#startIfIdle(entry);
        found.push({ entry, directory: fs, id: directory.id });
      } catch (error) {
        log.error({ name, error: describeError(error).message }, 'lazy layer lost');
        snapshotter.lose(directory.id);
      }
    }
    return found;
  }

  /** A source for another attempt, as long as a snapshot names an image that has the checkpoint. */
  sourceOf(id: string): BlobSource | undefined {
    for (const { labels } of this.#options.snapshotter.store.withCached(id)) {
      const layer = checkpointLayerLabels(labels) ?? lazyLayerLabels(labels);
      if (layer) return this.#options.openSource(layer.imageRef);
    }
    return undefined;
  }

  #isReady(target: string, parent: string): boolean {
    const existing = this.#options.snapshotter.store.find(target);
    // containerd looks for exactly this parent; another one would be an error there.
    return existing?.kind === 'committed' && existing.parent === parent;
  }

  #resume({ directory: { checkpoint } }: Snapshot): void {
    if (checkpoint === undefined) return;
    this.open(checkpoint).catch((error: unknown) => {
      this.#options.log.warn(
        { id: checkpoint, error: describeError(error).message },
        'checkpoint not resumed',
      );
    });
  }

  async #make(
    layer: CheckpointLayerLabels,
    target: string,
    parent: string,
    labels: Labels,
    signal: AbortSignal,
  ): Promise<void> {
    const { snapshotter, log } = this.#options;
    const started = performance.now();
    const { location } = layer;
    const parentSnapshot = parent === '' ? undefined : snapshotter.stat(parent);
    const entry = await this.#entryFor(layer, signal);
    const position = layerPosition(layer, target, chainOfName(parent), entry.index.dataLayers);
    // An index layer that was unpacked as files has its data layers unpacked too.
    if (position.kind === 'data' && parentSnapshot?.directory.checkpoint !== location.digest)
      throw failedPrecondition(
        'Cannot take the layer as it is: the layer below is not that of its checkpoint',
      );
    const { json } = entry.checkpoint;
    const files =
      position.kind === 'index'
        ? { [JSON_FILE]: json, [INDEX_FILE]: await readFile(join(entry.directory, INDEX_FILE)) }
        : { [JSON_FILE]: json };
    await snapshotter.createReady({
      name: target,
      parent,
      labels,
      content: { kind: 'checkpoint', checkpoint: location.digest, files },
    });
    this.#startIfIdle(entry);
    if (position.kind === 'index') {
      const { layers } = readCheckpointFacts(json);
      learnLayers(
        snapshotter,
        layers.base.map((base) => base.diffId),
      );
    }
    const ms = Math.round(performance.now() - started);
    log.info(
      { id: location.digest, image: layer.imageRef, layer: layer.layerDigest, position, ms },
      'layer is remote',
    );
  }

  async #entryFor({ location, imageRef }: CheckpointLayerLabels, signal: AbortSignal): Promise<CacheEntry> {
    const { cache, openSource, indexTimeoutMs, onIndexFailed } = this.#options;
    const known = cache.find(location.digest);
    if (known) return known;
    const source = openSource(imageRef);
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(indexTimeoutMs)]);
    const { indexBytes, checkpointJson } = await fetchIndex(source, location, bounded).catch(
      (error: unknown) => {
        onIndexFailed?.(error);
        throw error;
      },
    );
    return await cache.add(location.digest, indexBytes, checkpointJson);
  }

  #startIfIdle(entry: CacheEntry): void {
    if (entry.state.kind !== 'idle') return;
    const source = this.sourceOf(entry.id);
    if (!source)
      throw new SnapshotError(
        Code.unavailable,
        `No image on this node has checkpoint ${entry.id}; pull it again`,
      );
    entry.start(source);
  }
}
