/** The image that is built from: found in containerd, or pulled. */

import { INDEX_ANNOTATION } from '../../checkpoint/annotation.ts';
import type { LayerFacts } from '../../checkpoint/facts.ts';
import { lazyAnnotations } from '../../checkpoint/lazy/lazy-image.ts';
import { formatReference, type Manifest, parseReference } from '../../checkpoint/registry/index.ts';
import { imageConfigSchema, parseDocument } from '../../checkpoint/registry/manifest.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { RunImage } from '../checkpoint/base-image.ts';
import type { Containerd } from '../containerd/index.ts';
import { MAX_DOCUMENT_BYTES, manifestOf } from '../containerd/manifest.ts';
import { CliError } from '../error.ts';
import { completeImage } from '../fetch/complete.ts';
import { hostPlatform, type Registries } from '../registry.ts';
import type { Step } from '../ui/progress.ts';
import { type RunConfig, runConfigSchema } from './oci-spec.ts';

export interface BaseImage extends RunImage {
  /** How it is run where the build file says nothing else. */
  run: RunConfig;
}

/** All of its blobs are in the content store when this returns. No image is added there: the lease of `store` keeps them. */
export async function pullBase(
  store: Containerd,
  registries: Registries,
  name: string,
  signal: AbortSignal,
  step: Step,
): Promise<BaseImage> {
  const reference = parseReference(name);
  const { known, manifest } = await registries.reading(reference.registry, signal, (client) =>
    completeImage({ store, client, reference, name, signal, step }),
  );
  const config = await store.content.readAll(manifest.config.digest, MAX_DOCUMENT_BYTES);
  return baseImage(known?.name ?? formatReference(reference), manifest, config);
}

/** Throws for an image that nothing can be built from. */
export function baseImage(reference: string, manifest: Manifest, config: Buffer): BaseImage {
  if (manifest.layers.some(({ annotations }) => annotations?.[INDEX_ANNOTATION] !== undefined))
    throw new CliError(
      Code.failedPrecondition,
      `Cannot build from ${reference}: it is a checkpoint image already; name the image that it was made from ('thaw inspect' shows it)`,
    );
  const parsed = parseDocument(imageConfigSchema, config, "the image's config");
  const diffIds = parsed.rootfs.diff_ids;
  if (diffIds.length === 0 || diffIds.length !== manifest.layers.length)
    throw new CliError(
      Code.dataLoss,
      `Cannot use the image ${reference}: its configuration names ${diffIds.length} layers, its manifest ${manifest.layers.length}`,
    );
  return {
    reference,
    configDigest: manifest.config.digest,
    config,
    layers: manifest.layers.map(
      ({ digest, mediaType, size }, at): LayerFacts => ({
        digest,
        mediaType,
        size,
        diffId: diffIds[at] ?? '',
      }),
    ),
    checkpointLayers: 0,
    lazy: lazyAnnotations(manifest),
    run: runConfigSchema.parse(parsed.config ?? {}),
  };
}

/** What is known of an image without its layers. `here`: containerd has it. */
export async function lookUpBase(
  containerd: Containerd,
  registries: Registries,
  name: string,
  signal: AbortSignal,
): Promise<{ base: BaseImage; here: boolean }> {
  const local = await localBase(containerd.within({ signal }), name);
  return { base: local ?? (await remoteBase(registries, name, signal)), here: local !== undefined };
}

async function localBase(containerd: Containerd, name: string): Promise<BaseImage | undefined> {
  for (const known of new Set([name, formatReference(parseReference(name))])) {
    try {
      const manifest = await manifestOf(containerd, known);
      const config = await containerd.content.readAll(manifest.config.digest, MAX_DOCUMENT_BYTES);
      return baseImage(known, manifest, config);
    } catch (error) {
      if (describeError(error).code !== Code.notFound) throw error;
    }
  }
  return undefined;
}

async function remoteBase(registries: Registries, name: string, signal: AbortSignal): Promise<BaseImage> {
  const reference = parseReference(name);
  const { manifest, configBytes } = await registries.reading(reference.registry, signal, (client) =>
    client.image(reference, hostPlatform(), { signal }),
  );
  return baseImage(formatReference(reference), manifest, configBytes);
}
