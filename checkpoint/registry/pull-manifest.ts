import { Code } from '../../proto/status.ts';
import { digestOf } from '../digest.ts';
import { CheckpointError } from '../error.ts';
import { contentFailure } from './failure.ts';
import {
  ACCEPTED_MANIFESTS,
  type Descriptor,
  documentType,
  type ImageConfig,
  imageConfigSchema,
  imageIndexSchema,
  type Manifest,
  manifestSchema,
  type Platform,
  parseDocument,
  selectPlatform,
} from './manifest.ts';
import { mediaTypes } from './media-types.ts';
import { readBlobBytes } from './read-blob.ts';
import { manifestSelector, type Reference } from './reference.ts';
import type { Session } from './session.ts';

/** The distribution-spec lets registries refuse manifests above 4 MiB. */
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const MAX_CONFIG_BYTES = 8 * 1024 * 1024;

/** Bytes as the registry has them, checked against their digest. */
export interface RawManifest {
  descriptor: Descriptor;
  bytes: Buffer;
}

export interface PulledImage {
  /** Of the image's manifest, also where the reference named an index. */
  descriptor: Descriptor;
  manifestBytes: Buffer;
  manifest: Manifest;
  configBytes: Buffer;
  config: ImageConfig;
}

/**
 * One manifest or index by tag or digest. The digest is that of the bytes: a digest asked for, and one that the
 * registry states, must equal it.
 */
export async function pullManifest(
  session: Session,
  repository: string,
  selector: string,
  signal: AbortSignal | undefined,
): Promise<RawManifest> {
  const subject = session.subject(repository, `read the manifest ${selector}`);
  return session.retrying(subject, signal, async () => {
    const response = await session.send(
      subject,
      { repository, actions: 'pull' },
      {
        method: 'GET',
        url: session.url(repository, `manifests/${selector}`),
        headers: { accept: ACCEPTED_MANIFESTS },
        signal,
      },
    );
    if (response.status !== 200) throw await session.failure(subject, response);
    const bytes = await session.transport.readSmall(subject, response, MAX_MANIFEST_BYTES, signal);
    const digest = digestOf(bytes);
    const stated = selector.startsWith('sha256:') ? selector : response.headers['docker-content-digest'];
    if (typeof stated === 'string' && stated.startsWith('sha256:') && stated !== digest)
      throw contentFailure(subject, 'its bytes do not have the digest they should have');
    const header = response.headers['content-type']?.split(';')[0]?.trim();
    const kind = documentType(bytes, header);
    const mediaType = parseMediaType(bytes) ?? header;
    return {
      bytes,
      descriptor: {
        mediaType: mediaType ?? (kind === 'index' ? mediaTypes.ociIndex : mediaTypes.ociManifest),
        digest,
        size: bytes.length,
      },
    };
  });
}

/** The image for a platform with its config. Every byte is checked against the digest that names it. */
export async function pullImage(
  session: Session,
  reference: Reference,
  platform: Platform,
  signal: AbortSignal | undefined,
): Promise<PulledImage> {
  const { repository } = reference;
  let raw = await pullManifest(session, repository, manifestSelector(reference), signal);
  if (documentType(raw.bytes, raw.descriptor.mediaType) === 'index') {
    const index = parseDocument(imageIndexSchema, raw.bytes, 'the image index');
    const chosen = selectPlatform(index, platform);
    raw = await pullManifest(session, repository, chosen.digest, signal);
    if (documentType(raw.bytes, raw.descriptor.mediaType) === 'index')
      throw new CheckpointError(Code.invalidArgument, 'Cannot use the image: its index lists another index');
  }
  const manifest = parseDocument(manifestSchema, raw.bytes, 'the manifest');
  const configBytes = await readBlobBytes(session, repository, manifest.config, MAX_CONFIG_BYTES, signal);
  const config = parseDocument(imageConfigSchema, configBytes, "the image's config");
  if (config.rootfs.diff_ids.length !== manifest.layers.length)
    throw new CheckpointError(
      Code.dataLoss,
      `Cannot use the image: its manifest has ${manifest.layers.length} layers, its config ${config.rootfs.diff_ids.length}`,
    );
  return { descriptor: raw.descriptor, manifestBytes: raw.bytes, manifest, configBytes, config };
}

function parseMediaType(bytes: Uint8Array): string | undefined {
  const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
  return value && typeof value === 'object' && 'mediaType' in value && typeof value.mediaType === 'string'
    ? value.mediaType
    : undefined;
}
