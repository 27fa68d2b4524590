import { INDEX_ANNOTATION } from '../../checkpoint/annotation.ts';
import { chainId } from '../../checkpoint/chain-id.ts';
import type { LayerFacts } from '../../checkpoint/facts.ts';
import { lazyAnnotations } from '../../checkpoint/lazy/lazy-image.ts';
import { imageConfigSchema, parseDocument } from '../../checkpoint/registry/manifest.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { Container, Containerd } from '../containerd/index.ts';
import { MAX_DOCUMENT_BYTES, manifestOf } from '../containerd/manifest.ts';
import { CliError } from '../error.ts';

/** The image that a container runs from, as containerd's content store has it. */
export interface RunImage {
  /** The name to record: a tag where there is one. */
  reference: string;
  configDigest: string;
  config: Buffer;
  /** Bottom first. */
  layers: readonly LayerFacts[];
  /** How many of them, from the bottom on, are checkpoint layers. */
  checkpointLayers: number;
  /** Annotations of lazy layers, by blob digest. */
  lazy: ReadonlyMap<string, string>;
}

/**
 * The image whose layers the container's snapshot lies on. The image's name may point to something newer by now; then
 * the other images of the namespace are looked through.
 */
export async function runImageOf(
  containerd: Containerd,
  container: Container,
  parentChain: string,
): Promise<RunImage> {
  const names = [container.image, ...(await containerd.images.list()).map(({ name }) => name)];
  let failure: unknown;
  let found: RunImage | undefined;
  for (const name of new Set(names)) {
    if (name === '') continue;
    // A name that is a digest says nothing to a reader; go on looking for a tag of the same image.
    if (found !== undefined && isTag(found.reference)) break;
    try {
      const image = await readImage(containerd, name);
      if (chainId(image.layers.map(({ diffId }) => diffId)) !== parentChain) continue;
      if (found === undefined || isTag(name)) found = image;
    } catch (error) {
      if (describeError(error).code === Code.canceled) throw error;
      failure ??= error;
    }
  }
  if (found !== undefined) return found;
  throw new CliError(
    Code.failedPrecondition,
    `Cannot find the image that ${container.id} runs from: pull ${container.image || 'it'} again, so that its layers can be named in the checkpoint image`,
    failure === undefined ? {} : { cause: failure },
  );
}

function isTag(name: string): boolean {
  return !name.includes('@') && !name.startsWith('sha256:');
}

async function readImage(containerd: Containerd, name: string): Promise<RunImage> {
  const manifest = await manifestOf(containerd, name);
  const config = await containerd.content.readAll(manifest.config.digest, MAX_DOCUMENT_BYTES);
  const diffIds = parseDocument(imageConfigSchema, config, "the image's config").rootfs.diff_ids;
  if (diffIds.length !== manifest.layers.length)
    throw new CliError(
      Code.dataLoss,
      `Cannot use the image ${name}: its configuration names ${diffIds.length} layers, its manifest ${manifest.layers.length}`,
    );
  const layers = manifest.layers.map(({ digest, mediaType, size }, at) => ({
    digest,
    mediaType,
    size,
    diffId: diffIds[at] ?? '',
  }));
  const above = manifest.layers.findIndex(({ annotations }) => annotations?.[INDEX_ANNOTATION] === undefined);
  return {
    reference: name,
    configDigest: manifest.config.digest,
    config,
    layers,
    checkpointLayers: above === -1 ? manifest.layers.length : above,
    lazy: lazyAnnotations(manifest),
  };
}
