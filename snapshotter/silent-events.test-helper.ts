/** Of a node cache in tests that do not look at what it tells. */
import type { NodeCacheOptions } from './cache/index.ts';

export const silentEvents: NodeCacheOptions['events'] = {
  onStarted() {},
  onBytes() {},
  onComplete() {},
  onFailed() {},
  onSyncFailed() {},
  onEvicted() {},
  onDiscarded() {},
  onDisplaced() {},
};
