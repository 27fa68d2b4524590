/** Labels that containerd gives with Prepare. Source: containerd, pkg/snapshotters/annotations.go and unpack.go. */
import { INDEX_ANNOTATION, type IndexLocation, parseIndexAnnotation } from '../../checkpoint/annotation.ts';
import { isDigest } from '../../checkpoint/digest.ts';
import { invalidArgument } from '../error.ts';
import type { Labels } from '../store/index.ts';

/** Chain ID under which the unpacker will look for the layer. */
export const TARGET_LABEL = 'containerd.io/snapshot.ref';
export const IMAGE_REF_LABEL = 'containerd.io/snapshot/cri.image-ref';
export const LAYER_DIGEST_LABEL = 'containerd.io/snapshot/cri.layer-digest';

export interface CheckpointLayerLabels {
  /** Where the index of the checkpoint lies. */
  location: IndexLocation;
  imageRef: string;
  /** Blob digest of this layer, which is its diff ID too: checkpoint layers are not compressed. */
  layerDigest: string;
}

/** Undefined for a layer of any other image. INVALID_ARGUMENT for a checkpoint layer that cannot be used so. */
export function checkpointLayerLabels(labels: Labels): CheckpointLayerLabels | undefined {
  const annotation = labels[INDEX_ANNOTATION];
  if (annotation === undefined) return undefined;
  const location = parseIndexAnnotation(annotation);
  const imageRef = labels[IMAGE_REF_LABEL];
  const layerDigest = labels[LAYER_DIGEST_LABEL];
  if (!imageRef || !layerDigest)
    throw invalidArgument(
      `Cannot fetch the checkpoint layer on demand: containerd gave no ${imageRef ? LAYER_DIGEST_LABEL : IMAGE_REF_LABEL}; set disable_snapshot_annotations = false in its CRI configuration`,
    );
  if (!isDigest(layerDigest)) throw invalidArgument(`Cannot use layer digest "${layerDigest.slice(0, 100)}"`);
  return { location, imageRef, layerDigest };
}
