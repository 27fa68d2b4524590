/** What happens in the node cache, for the log and for metrics. */
import type { Logger } from 'pino';
import { describeError } from '../proto/status.ts';
import type { NodeCache, NodeCacheOptions } from './cache/index.ts';
import { fetchErrorKind } from './fetch-errors.ts';
import type { Metrics } from './metrics/index.ts';

export function cacheEvents(log: Logger, metrics: Metrics | undefined): NodeCacheOptions['events'] {
  return {
    onStarted: ({ id }, { description }) => log.info({ id, from: description }, 'fetch started'),
    onBytes: (source, bytes) => metrics?.fetches.read(source, bytes),
    onComplete: ({ id, progress }, { description }, ms) => {
      metrics?.fetches.completed(ms);
      log.info(
        {
          id,
          from: description,
          storedBytes: Number(progress.storedBytes),
          fetchedBytes: Number(progress.fetchedBytes),
          localBytes: Number(progress.localBytes),
          ms,
        },
        'fetch complete',
      );
    },
    onFailed: ({ id, progress }, { description }, error) => {
      metrics?.fetches.failed(fetchErrorKind(error));
      log.error(
        {
          id,
          from: description,
          presentBytes: Number(progress.presentBytes),
          code: error.code,
          error: error.message,
          ...error.context,
        },
        'fetch failed',
      );
    },
    onSyncFailed: ({ id }, error) =>
      log.error({ id, error: describeError(error).message }, 'cache not synced'),
    onDisplaced: (id, freedBytes) => {
      metrics?.fetches.removed('displaced', Number(freedBytes));
      log.info({ id, freedBytes: Number(freedBytes) }, 'evicted for another checkpoint');
    },
    onEvicted: (_id, freedBytes) => metrics?.fetches.removed('evicted', Number(freedBytes)),
    onDiscarded: (id, reason) => {
      metrics?.fetches.removed('discarded', 0);
      log.info({ id, reason }, 'cache entry discarded');
    },
  };
}

/** One line for each checkpoint on its way, or waited for. */
export function logProgress(cache: NodeCache, log: Logger): void {
  for (const { id, state, progress } of cache.entries()) {
    if (state.kind !== 'fetching' && progress.wantedChunks === 0) continue;
    const { presentBytes, storedBytes, fetchedBytes, wantedChunks } = progress;
    log.info(
      {
        id,
        presentBytes: Number(presentBytes),
        storedBytes: Number(storedBytes),
        fetchedBytes: Number(fetchedBytes),
        wantedChunks,
      },
      'fetch goes on',
    );
  }
}
