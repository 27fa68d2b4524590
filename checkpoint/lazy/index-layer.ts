/**
 * The small layer below the lazy ones that holds their indexes. It is not compressed, so its digest is its diff ID, and
 * the chain ID of every layer above names it: no image can give another one's layers other bytes.
 */
import { formatIndexAnnotation, type IndexLocation, parseIndexAnnotation } from '../annotation.ts';
import { digestOf } from '../digest.ts';
import { THAW_DIRECTORY } from '../layer-layout.ts';
import { padded, TAR_BLOCK, TAR_END_BYTES, tarHeader } from '../tar-header.ts';

/**
 * On the index layer and on every lazy layer above it: where the layer's own index lies. On the index layer it names all
 * of the blob. The form is that of INDEX_ANNOTATION.
 */
export const LAYER_ANNOTATION = 'containerd.io/snapshot/thaw.layer';

export const formatLayerAnnotation: (location: IndexLocation) => string = formatIndexAnnotation;
export const parseLayerAnnotation: (text: string) => IndexLocation = parseIndexAnnotation;

export interface BaseIndexLayer {
  /** The whole tar. */
  bytes: Buffer;
  digest: string;
  /** Of each index, in their order. */
  locations: IndexLocation[];
}

/** `indexes`: of the lazy layers, bottom first. */
export function buildBaseIndexLayer(indexes: readonly Uint8Array[]): BaseIndexLayer {
  const parts: Buffer[] = [
    tarHeader({ name: `${THAW_DIRECTORY}/`, type: 'directory', mode: 0o700, size: 0 }),
  ];
  const offsets: number[] = [];
  let at = TAR_BLOCK;
  for (const [i, index] of indexes.entries()) {
    const name = `${THAW_DIRECTORY}/layer-${String(i).padStart(6, '0')}`;
    parts.push(tarHeader({ name, type: 'file', mode: 0o600, size: index.byteLength }));
    offsets.push(at + TAR_BLOCK);
    const content = Buffer.alloc(padded(index.byteLength));
    content.set(index);
    parts.push(content);
    at += TAR_BLOCK + content.length;
  }
  parts.push(Buffer.alloc(TAR_END_BYTES));
  const bytes = Buffer.concat(parts);
  const digest = digestOf(bytes);
  const locations = indexes.map((index, i) => ({
    blob: digest,
    offset: offsets[i] as number,
    length: index.byteLength,
    digest: digestOf(index),
  }));
  return { bytes, digest, locations };
}
