/** Base layers as snapshots, as containerd's own unpacker makes them: a snapshotter that has a layer otherwise may say so. */
import { randomBytes } from 'node:crypto';
import { chainIds } from '../../checkpoint/chain-id.ts';
import type { LayerFacts } from '../../checkpoint/facts.ts';
import { LAYER_ANNOTATION } from '../../checkpoint/lazy/index-layer.ts';
import { Code, describeError } from '../../proto/status.ts';
import { type Cleanup, checkInterrupted, ignoreMissing } from '../cleanup.ts';
import type { Containerd } from '../containerd/index.ts';
import { CliError } from '../error.ts';
import type { Step } from '../ui/progress.ts';

export interface UnpackOptions {
  /** Calls in the lease, which keeps the new snapshots. */
  store: Containerd;
  /** Without lease and signal. */
  undo: Containerd;
  cleanup: Cleanup;
  signal: AbortSignal;
  snapshotter: string;
  /** Bottom first; their blobs are in the content store. */
  layers: readonly LayerFacts[];
  /** Annotations of those that are lazy, by blob digest, and the image that they belong to. */
  lazy: ReadonlyMap<string, string>;
  reference: string;
  step: Step;
}

/** What CRI says of a layer to a snapshotter that may have it already. Source: containerd, pkg/snapshotters/annotations.go. */
const REMOTE_LABELS = {
  target: 'containerd.io/snapshot.ref',
  image: 'containerd.io/snapshot/cri.image-ref',
  layer: 'containerd.io/snapshot/cri.layer-digest',
} as const;

/** Returns the name of the topmost snapshot. Layers that are unpacked already are used as they are. */
export async function unpackLayers(options: UnpackOptions): Promise<string> {
  const { store, undo, cleanup, signal, snapshotter, layers, lazy, reference, step } = options;
  step.update(
    0,
    layers.reduce((sum, { size }) => sum + size, 0),
  );
  const snapshots = store.snapshots(snapshotter);
  let parent = '';
  let unpacked = 0;
  for (const [at, name] of chainIds(layers.map(({ diffId }) => diffId)).entries()) {
    const layer = layers[at];
    if (layer === undefined) break;
    checkInterrupted(signal);
    await store.leases.keep(`snapshots/${snapshotter}`, name);
    if (!(await succeeds(snapshots.stat(name), Code.notFound))) {
      const key = `thaw-unpack-${randomBytes(8).toString('hex')}`;
      const remove = cleanup.add(`remove the snapshot ${key}`, () =>
        ignoreMissing(undo.snapshots(snapshotter).remove(key)),
      );
      const { mediaType, digest, size } = layer;
      const annotation = lazy.get(digest);
      const labels = annotation !== undefined && {
        [REMOTE_LABELS.target]: name,
        [REMOTE_LABELS.image]: reference,
        [REMOTE_LABELS.layer]: digest,
        [LAYER_ANNOTATION]: annotation,
      };
      const mounts = await unlessHere(snapshots.prepare(key, parent, labels || {}));
      if (!mounts) {
        await remove();
        parent = name;
        step.add(size);
        continue;
      }
      const diffId = await store.apply({ mediaType, digest, size: BigInt(size), annotations: {} }, mounts);
      if (diffId !== layer.diffId)
        throw new CliError(
          Code.dataLoss,
          `Cannot use the base image: its layer ${digest} unpacks to ${diffId}, its configuration says ${layer.diffId}`,
        );
      // Somebody may have unpacked it meanwhile; then ours is removed.
      await succeeds(snapshots.commit(name, key), Code.alreadyExists);
      await remove();
      unpacked++;
    }
    parent = name;
    step.add(layer.size);
  }
  step.finish(unpacked === 0 ? 'they are unpacked already' : `${unpacked} of ${layers.length}`);
  return parent;
}

/** Undefined where the snapshotter has the layer without unpacking it. */
async function unlessHere<T>(prepared: Promise<T>): Promise<T | undefined> {
  try {
    return await prepared;
  } catch (error) {
    if (describeError(error).code !== Code.alreadyExists) throw error;
    return undefined;
  }
}

/** False for a failure of that code; others are thrown. */
async function succeeds(call: Promise<unknown>, unless: Code): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    if (describeError(error).code !== unless) throw error;
    return false;
  }
}
