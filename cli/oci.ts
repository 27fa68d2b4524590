/** OCI and Docker image documents as far as they are read here. Source: OCI image-spec 1.1, image-manifest-2-2. */
import { z } from 'zod';
import { Code } from '../proto/status.ts';
import { CliError } from './error.ts';

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'it has a digest that is not SHA-256');

const descriptor = z.object({
  mediaType: z.string(),
  digest,
  size: z.number().int().nonnegative(),
  annotations: z.record(z.string(), z.string()).default({}),
});

const platform = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });

const manifest = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: descriptor,
  layers: z.array(descriptor).max(2048),
});

const index = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z.array(descriptor.extend({ platform: platform.optional() })).max(2048),
});

const config = z.object({
  architecture: z.string(),
  os: z.string(),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: z.array(digest) }),
});

export type OciDescriptor = z.infer<typeof descriptor>;
export type OciManifest = z.infer<typeof manifest>;
export type OciIndex = z.infer<typeof index>;
export type OciConfig = z.infer<typeof config>;

/** Larger documents are refused by registries and by containerd. */
export const MAX_DOCUMENT_BYTES = 8 << 20;

const INDEX_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];

export function isIndexType(mediaType: string): boolean {
  return INDEX_TYPES.includes(mediaType);
}

export const parseManifest = (bytes: Uint8Array) => parse(manifest, bytes, 'the manifest');
export const parseIndex = (bytes: Uint8Array) => parse(index, bytes, 'the image index');
export const parseConfig = (bytes: Uint8Array) => parse(config, bytes, 'the image configuration');

function parse<Schema extends z.ZodType>(schema: Schema, bytes: Uint8Array, what: string): z.infer<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw new CliError(Code.dataLoss, `Cannot read ${what}: it is not JSON`, { cause: error });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue === undefined ? '' : ` at ${issue.path.join('.') || 'the top'}: ${issue.message}`;
  throw new CliError(Code.dataLoss, `Cannot read ${what}: it is not as the OCI specification says${where}`);
}

/** Of an image for several platforms, the manifest for this machine. */
export function chooseManifest(images: OciIndex, architecture: string): OciDescriptor {
  const found = images.manifests.find(
    ({ platform }) => platform?.os === 'linux' && platform.architecture === architecture,
  );
  const chosen = found ?? (images.manifests.length === 1 ? images.manifests[0] : undefined);
  if (chosen === undefined)
    throw new CliError(Code.notFound, `Cannot use the image: it has no variant for linux/${architecture}`);
  return chosen;
}

/** Names of Go, as images and checkpoints use them. */
export function goArchitecture(nodeArch: string): string {
  switch (nodeArch) {
    case 'x64':
      return 'amd64';
    default:
      return nodeArch;
  }
}
