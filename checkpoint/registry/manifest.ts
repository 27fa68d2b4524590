/** Manifests, indexes and image configs: parsed with the fields that are used, everything else kept as it came. */
import { z } from 'zod';
import { Code } from '../../proto/status.ts';
import { isDigest } from '../digest.ts';
import { CheckpointError } from '../error.ts';
import { isIndexType, isManifestType, mediaTypes } from './media-types.ts';

const annotations = z.record(z.string(), z.string());

const platformSchema = z.looseObject({
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
});

export const descriptorSchema = z.looseObject({
  mediaType: z.string(),
  digest: z.string().refine(isDigest, 'is no SHA-256 digest'),
  size: z.number().int().nonnegative(),
  annotations: annotations.optional(),
  platform: platformSchema.optional(),
});
export type Descriptor = z.infer<typeof descriptorSchema>;

export const manifestSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: descriptorSchema,
  layers: z.array(descriptorSchema).max(2048),
  annotations: annotations.optional(),
});
export type Manifest = z.infer<typeof manifestSchema>;

export const imageIndexSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z.array(descriptorSchema).max(1024),
});
export type ImageIndex = z.infer<typeof imageIndexSchema>;

export const imageConfigSchema = z.looseObject({
  os: z.string(),
  architecture: z.string(),
  created: z.string().optional(),
  config: z.looseObject({}).nullish(),
  rootfs: z.looseObject({
    type: z.literal('layers'),
    diff_ids: z.array(z.string().refine(isDigest, 'is no SHA-256 digest')),
  }),
  history: z.array(z.looseObject({ empty_layer: z.boolean().optional() })).optional(),
});
export type ImageConfig = z.infer<typeof imageConfigSchema>;

/** Which platform to take out of an index, in Go's words: "linux", "amd64". */
export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

/** Parses JSON of a schema above. Throws dataLoss that names `what`. */
export function parseDocument<T>(schema: z.ZodType<T>, bytes: Uint8Array, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CheckpointError(Code.dataLoss, `Cannot read ${what}: it is no JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new CheckpointError(
    Code.dataLoss,
    `Cannot read ${what}: "${issue?.path.join('.') ?? ''}" is not as the image specification says`,
    { cause: parsed.error },
  );
}

/**
 * What a document is, by its own mediaType or else its shape. A header alone must not decide: the digest does not
 * cover it (OCI image-spec, "mediaType" of manifest and index).
 */
export function documentType(bytes: Uint8Array, header: string | undefined): 'index' | 'manifest' {
  const value = parseDocument(
    z.looseObject({
      mediaType: z.string().optional(),
      manifests: z.unknown().optional(),
      layers: z.unknown().optional(),
    }),
    bytes,
    'the manifest',
  );
  const isIndex = value.manifests !== undefined;
  const declared = value.mediaType ?? header ?? '';
  if (isIndex === (value.layers !== undefined))
    throw new CheckpointError(
      Code.invalidArgument,
      'Cannot read the manifest: it is neither an image nor an image index; use an image of OCI or Docker schema 2 format',
    );
  if (isIndex ? isManifestType(declared) : isIndexType(declared))
    throw new CheckpointError(
      Code.dataLoss,
      'Cannot read the manifest: its media type and its content differ',
    );
  return isIndex ? 'index' : 'manifest';
}

/** The manifest for a platform. A wanted variant must match where the entry names one. Throws notFound. */
export function selectPlatform(index: ImageIndex, wanted: Platform): Descriptor {
  const found = index.manifests.find(({ platform, mediaType }) => {
    if (!platform || !isManifestType(mediaType)) return false;
    if (platform.os !== wanted.os || platform.architecture !== wanted.architecture) return false;
    return wanted.variant === undefined || platform.variant === undefined
      ? true
      : platform.variant === wanted.variant;
  });
  if (found) return found;
  const have = index.manifests.flatMap((m) =>
    m.platform && m.platform.os !== 'unknown' ? [`${m.platform.os}/${m.platform.architecture}`] : [],
  );
  throw new CheckpointError(
    Code.notFound,
    `Cannot use the image: it has no ${wanted.os}/${wanted.architecture} variant (it has ${[...new Set(have)].join(', ').slice(0, 200) || 'none'})`,
  );
}

/** Every type a pull accepts, for the Accept header. */
export const ACCEPTED_MANIFESTS = [
  mediaTypes.ociManifest,
  mediaTypes.ociIndex,
  mediaTypes.dockerManifest,
  mediaTypes.dockerList,
].join(', ');
