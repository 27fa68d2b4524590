import {
  imageIndexSchema,
  type Manifest,
  manifestSchema,
  parseDocument,
  selectPlatform,
} from '../../checkpoint/registry/manifest.ts';
import { isIndexType } from '../../checkpoint/registry/media-types.ts';
import { hostPlatform } from '../registry.ts';
import type { Containerd } from './client.ts';

/** Larger documents are refused by registries. */
export const MAX_DOCUMENT_BYTES = 8 << 20;

/** The manifest for this machine of an image that containerd knows by this name, from its content store. */
export async function manifestOf(containerd: Containerd, name: string): Promise<Manifest> {
  const { target } = await containerd.images.get(name);
  const read = (digest: string) => containerd.content.readAll(digest, MAX_DOCUMENT_BYTES);
  let { digest } = target;
  if (isIndexType(target.mediaType)) {
    const index = parseDocument(imageIndexSchema, await read(digest), 'the image index');
    digest = selectPlatform(index, hostPlatform()).digest;
  }
  return parseDocument(manifestSchema, await read(digest), 'the manifest');
}
