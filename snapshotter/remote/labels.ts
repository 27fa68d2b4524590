/** Labels that containerd gives with Prepare. Source: containerd, pkg/snapshotters/annotations.go and unpack.go. */
import { INDEX_ANNOTATION, type IndexLocation, parseIndexAnnotation } from '../../checkpoint/annotation.ts';
import { isDigest } from '../../checkpoint/digest.ts';
import { LAYER_ANNOTATION } from '../../checkpoint/lazy/index-layer.ts';
import { invalidArgument } from '../error.ts';
import type { Labels } from '../store/index.ts';

/** Chain ID under which the unpacker will look for the layer. */
export const TARGET_LABEL = 'containerd.io/snapshot.ref';
export const IMAGE_REF_LABEL = 'containerd.io/snapshot/cri.image-ref';
export const LAYER_DIGEST_LABEL = 'containerd.io/snapshot/cri.layer-digest';

export interface LayerLabels {
  /** Where the index lies. */
  location: IndexLocation;
  imageRef: string;
  /** Blob digest of this layer. That of a checkpoint layer is its diff ID too: they are not compressed. */
  layerDigest: string;
}

export type CheckpointLayerLabels = LayerLabels;

/** Undefined for a layer of any other image. INVALID_ARGUMENT for a checkpoint layer that cannot be used so. */
export function checkpointLayerLabels(labels: Labels): CheckpointLayerLabels | undefined {
  return layerLabels(labels, INDEX_ANNOTATION);
}

/** The same for a lazy layer, or the layer with the indexes of those above it. */
export function lazyLayerLabels(labels: Labels): LayerLabels | undefined {
  return layerLabels(labels, LAYER_ANNOTATION);
}

function layerLabels(labels: Labels, name: string): LayerLabels | undefined {
  const annotation = labels[name];
  if (annotation === undefined) return undefined;
  const location = parseIndexAnnotation(annotation);
  const imageRef = labels[IMAGE_REF_LABEL];
  const layerDigest = labels[LAYER_DIGEST_LABEL];
  if (!imageRef || !layerDigest)
    throw invalidArgument(
      `Cannot fetch the layer on demand: containerd gave no ${imageRef ? LAYER_DIGEST_LABEL : IMAGE_REF_LABEL}; set disable_snapshot_annotations = false in its CRI configuration`,
    );
  if (!isDigest(layerDigest)) throw invalidArgument(`Cannot use layer digest "${layerDigest.slice(0, 100)}"`);
  return { location, imageRef, layerDigest };
}
