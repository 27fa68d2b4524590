/** A checkpoint image's manifest and config, made of layers that exist already. docs/image-format.md, "Manifest". */
import { Code } from '../proto/status.ts';
import { INDEX_ANNOTATION } from './annotation.ts';
import { digestOf } from './digest.ts';
import { CheckpointError } from './error.ts';
import type { CheckpointFacts, LayerFacts } from './facts.ts';
import { CHECKPOINT_LAYER_MEDIA_TYPE } from './layer-layout.ts';
import { LAYER_ANNOTATION } from './lazy/index-layer.ts';
import { type Descriptor, type ImageConfig, imageConfigSchema, parseDocument } from './registry/manifest.ts';
import { mediaTypes, ociLayerType } from './registry/media-types.ts';

/**
 * Not repeated in the manifest: containerd's CRI plugin (2.1 to 2.3) takes an image whose manifest has it for an
 * archive in its own format, and tries to restore it itself.
 */
const HIJACKING_ANNOTATION = 'org.criu.checkpoint.container.name';
/** For who decides by the manifest alone what may run on a node. */
const VERIFIED_ANNOTATION = 'thaw.dev/verified';
const BASE_NAME_ANNOTATION = 'org.opencontainers.image.base.name';

export interface ComposeInput {
  /** Config of the image that the container ran from, which may be a checkpoint image itself. */
  config: Uint8Array;
  /** Place of the lowest base layer in that config: the number of old checkpoint layers, which are dropped. */
  baseStart: number;
  /** Base layers, bottom first. Layers of the config above them (an old rootfs diff) are dropped. */
  base: readonly LayerFacts[];
  /** Annotations of those base layers that are lazy, by digest. */
  lazy?: ReadonlyMap<string, string> | undefined;
  /** The new rootfs diff, null if there is none. */
  diff: LayerFacts | null;
  index: { digest: string; size: number; annotation: string };
  data: readonly { digest: string; size: number }[];
  facts: CheckpointFacts;
}

export interface ComposedImage {
  config: { descriptor: Descriptor; bytes: Buffer };
  manifest: { descriptor: Descriptor; bytes: Buffer };
}

/**
 * Always an OCI image: where the base is one of Docker's, its layers get the OCI names of the same formats (image-spec,
 * "Compatibility matrix"). Throws invalidArgument for a base layer that OCI has no name for, dataLoss if config and
 * layers do not belong together.
 */
export function composeImage(input: ComposeInput): ComposedImage {
  const old = parseDocument(imageConfigSchema, input.config, "the image's config");
  const end = input.baseStart + input.base.length;
  const kept = old.rootfs.diff_ids.slice(input.baseStart, end);
  if (kept.length !== input.base.length || kept.some((diffId, i) => diffId !== input.base[i]?.diffId))
    throw new CheckpointError(
      Code.dataLoss,
      'Cannot make the checkpoint image: the base layers are not those of the image that the container ran from',
    );
  const checkpointLayers = [input.index, ...input.data];
  const checkpoint = checkpointLayers.map(({ digest, size }) =>
    checkpointDescriptor(digest, size, input.index.annotation),
  );
  const upper = input.diff ? [...input.base, input.diff] : input.base;
  const config = jsonDocument(mediaTypes.ociConfig, {
    ...old,
    created: input.facts.created,
    rootfs: {
      ...old.rootfs,
      diff_ids: [...checkpointLayers.map((layer) => layer.digest), ...upper.map((layer) => layer.diffId)],
    },
    history: composeHistory(old, input),
  });
  const manifest = jsonDocument(mediaTypes.ociManifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: config.descriptor,
    layers: [...checkpoint, ...upper.map((layer) => upperDescriptor(layer, input.lazy?.get(layer.digest)))],
    annotations: manifestAnnotations(input.facts),
  });
  return { config, manifest };
}

function checkpointDescriptor(digest: string, size: number, annotation: string): Descriptor {
  return {
    mediaType: CHECKPOINT_LAYER_MEDIA_TYPE,
    digest,
    size,
    annotations: { [INDEX_ANNOTATION]: annotation },
  };
}

function upperDescriptor({ mediaType, digest, size }: LayerFacts, lazy: string | undefined): Descriptor {
  const oci = ociLayerType(mediaType);
  if (oci === undefined)
    throw new CheckpointError(
      Code.invalidArgument,
      `Cannot make the checkpoint image: a base layer has the type "${mediaType.slice(0, 100)}", which an OCI image cannot hold`,
    );
  return {
    mediaType: oci,
    digest,
    size,
    ...(lazy === undefined ? {} : { annotations: { [LAYER_ANNOTATION]: lazy } }),
  };
}

function manifestAnnotations(facts: CheckpointFacts): Record<string, string> {
  const own = Object.entries(facts.annotations).filter(
    ([key]) => key.startsWith('org.criu.checkpoint.') && key !== HIJACKING_ANNOTATION,
  );
  return Object.fromEntries([
    ...own,
    [BASE_NAME_ANNOTATION, facts.image.reference],
    [VERIFIED_ANNOTATION, String(facts.verified ?? false)],
  ]);
}

interface HistoryEntry {
  [key: string]: unknown;
  empty_layer?: boolean | undefined;
}

/**
 * One entry a layer, in their order, and the base's entries for steps without a layer. An old history that does not
 * match its layers is replaced: tools align the two by counting.
 */
function composeHistory(
  old: ImageConfig,
  { baseStart, base, diff, data, facts }: ComposeInput,
): HistoryEntry[] {
  const entry = (what: string): HistoryEntry => ({ created: facts.created, created_by: `thaw: ${what}` });
  const below = [entry('checkpoint index'), ...data.map((_, i) => entry(`checkpoint data ${i}`))];
  const above = diff ? [entry('changes to the root file system')] : [];
  return [...below, ...baseHistory(old, baseStart, base.length), ...above];
}

function baseHistory(old: ImageConfig, start: number, count: number): HistoryEntry[] {
  const history = old.history ?? [];
  const layers = history.filter((entry) => entry.empty_layer !== true).length;
  if (layers !== old.rootfs.diff_ids.length)
    return Array.from({ length: count }, (_, i) => ({ created_by: `base layer ${i}` }));
  const kept: HistoryEntry[] = [];
  let layer = 0;
  for (const entry of history) {
    // Steps without a layer stay with the base if they come before the end of its layers or right behind it.
    const isEmpty = entry.empty_layer === true;
    const at = isEmpty ? layer : layer++;
    if (isEmpty ? at >= start && at <= start + count : at >= start && at < start + count) kept.push(entry);
  }
  return kept;
}

function jsonDocument(mediaType: string, value: unknown): { descriptor: Descriptor; bytes: Buffer } {
  const bytes = Buffer.from(JSON.stringify(value));
  return { bytes, descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length } };
}
