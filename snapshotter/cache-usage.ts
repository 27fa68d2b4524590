/** Disk use of a snapshot with what the node cache holds for it, so that whoever frees disk space by removing images sees it. */
import type { CacheEntry } from './cache/index.ts';
import type { OverlaySnapshotter } from './overlay/index.ts';
import type { Usage } from './store/index.ts';

export interface CachedSizes {
  find(id: string): Pick<CacheEntry, 'bytes' | 'index'> | undefined;
}

/**
 * A checkpoint, or a lazy layer, counts for the first of the snapshots that stand for it, and from the beginning on with all that it
 * will take: CRI asks for the use of a committed snapshot once and never again.
 */
export async function usageWithCache(
  snapshotter: Pick<OverlaySnapshotter, 'usage' | 'store'>,
  cache: CachedSizes,
  name: string,
): Promise<Usage> {
  const own = await snapshotter.usage(name);
  const { checkpoint, layer } = snapshotter.store.get(name).directory;
  const id = checkpoint ?? layer;
  const entry = id === undefined ? undefined : cache.find(id);
  if (id === undefined || !entry) return own;
  if (snapshotter.store.withCached(id)[0]?.name !== name) return own;
  return { size: own.size + entry.bytes, inodes: own.inodes + BigInt(entry.index.files.length) };
}
