/** Manifest and config of an image with lazy base layers. docs/image-format.md, "Lazy base layers". */
import { Code } from '../../proto/status.ts';
import { INDEX_ANNOTATION } from '../annotation.ts';
import { digestOf } from '../digest.ts';
import { CheckpointError } from '../error.ts';
import type { Descriptor, PulledImage } from '../registry/index.ts';
import { mediaTypes, ociLayerType } from '../registry/media-types.ts';
import { type BaseIndexLayer, formatLayerAnnotation, LAYER_ANNOTATION } from './index-layer.ts';

/** A layer in its new form, or undefined for one that stays as it is. */
export type ConvertedLayer = { digest: string; size: number } | undefined;

export interface ComposedDocument {
  descriptor: Descriptor;
  bytes: Buffer;
}

/** Annotations of an image's lazy layers, the index layer's too, by blob digest. */
export function lazyAnnotations({ layers }: Pick<PulledImage['manifest'], 'layers'>): Map<string, string> {
  return new Map(
    layers.flatMap(({ digest, annotations }) => {
      const annotation = annotations?.[LAYER_ANNOTATION];
      return annotation === undefined ? [] : [[digest, annotation] as const];
    }),
  );
}

/** INVALID_ARGUMENT for an image whose layers must stay as they are. */
export function checkConvertible({ layers }: PulledImage['manifest']): void {
  if (layers.some(({ annotations }) => annotations?.[INDEX_ANNOTATION] !== undefined))
    throw new CheckpointError(
      Code.invalidArgument,
      'Cannot convert a checkpoint image: convert the image that the container runs from, then make the checkpoint',
    );
  if (layers.some(({ annotations }) => annotations?.[LAYER_ANNOTATION] !== undefined))
    throw new CheckpointError(Code.invalidArgument, 'Cannot convert the image: it has lazy layers already');
  const foreign = layers.find(({ mediaType }) => ociLayerType(mediaType) === undefined);
  if (foreign)
    throw new CheckpointError(
      Code.invalidArgument,
      `Cannot convert the image: it has a layer of type "${foreign.mediaType.slice(0, 100)}", which an OCI image cannot hold`,
    );
}

/**
 * `layers`: one for each of the source's; the index layer has the indexes of those that are defined, in their order. Diff
 * IDs stay, with the index layer's before them.
 */
export function composeLazyImage(
  { manifest, config }: Pick<PulledImage, 'manifest' | 'config'>,
  layers: readonly ConvertedLayer[],
  index: BaseIndexLayer,
): { config: ComposedDocument; manifest: ComposedDocument } {
  let next = 0;
  const upper = manifest.layers.map((old, i): Descriptor => {
    const converted = layers[i];
    if (!converted) return { ...old, mediaType: ociLayerType(old.mediaType) ?? old.mediaType };
    const location = index.locations[next++];
    if (!location) throw new RangeError(`no index for layer ${i}`);
    return {
      mediaType: mediaTypes.ociLayerZstd,
      ...converted,
      annotations: { ...old.annotations, [LAYER_ANNOTATION]: formatLayerAnnotation(location) },
    };
  });
  const { bytes, digest } = index;
  const whole = { blob: digest, offset: 0, length: bytes.length, digest };
  const newConfig = document(mediaTypes.ociConfig, {
    ...config,
    rootfs: { ...config.rootfs, diff_ids: [digest, ...config.rootfs.diff_ids] },
    ...(config.history ? { history: [{ created_by: 'thaw: index of lazy layers' }, ...config.history] } : {}),
  });
  const newManifest = document(mediaTypes.ociManifest, {
    ...manifest,
    mediaType: mediaTypes.ociManifest,
    config: newConfig.descriptor,
    layers: [
      {
        mediaType: mediaTypes.ociLayer,
        digest,
        size: bytes.length,
        annotations: { [LAYER_ANNOTATION]: formatLayerAnnotation(whole) },
      },
      ...upper,
    ],
  });
  return { config: newConfig, manifest: newManifest };
}

function document(mediaType: string, value: unknown): ComposedDocument {
  const bytes = Buffer.from(JSON.stringify(value));
  return { bytes, descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length } };
}
