/** What the node cache holds, read from it when somebody asks. */
import { Gauge, type Registry } from 'prom-client';
import type { CacheEntry, EntryState } from '../cache/index.ts';

export interface CacheView {
  entries(): readonly CacheEntry[];
}

const states = ['idle', 'fetching', 'complete', 'failed'] as const satisfies readonly EntryState['kind'][];

export function addCacheGauges(registers: Registry[], cache: CacheView, maxBytes: number | undefined): void {
  new Gauge({
    name: 'thaw_checkpoints',
    help: 'Checkpoints in the node cache',
    labelNames: ['state'],
    registers,
    collect() {
      for (const state of states)
        this.set({ state }, cache.entries().filter((entry) => entry.state.kind === state).length);
    },
  });
  new Gauge({
    name: 'thaw_cache_bytes',
    help: 'Disk space that the checkpoints of the node cache take, decoded, once they are complete',
    registers,
    collect() {
      this.set(Number(cache.entries().reduce((sum, { bytes }) => sum + bytes, 0n)));
    },
  });
  if (maxBytes !== undefined)
    new Gauge({ name: 'thaw_cache_max_bytes', help: 'cache.max_bytes of the configuration', registers }).set(
      maxBytes,
    );
  const perCheckpoint = (name: string, help: string, value: (entry: CacheEntry) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['checkpoint'],
      registers,
      collect() {
        this.reset();
        for (const entry of cache.entries()) this.set({ checkpoint: entry.id }, value(entry));
      },
    });
  perCheckpoint('thaw_checkpoint_bytes', 'Size of a checkpoint as it is stored', ({ progress }) =>
    Number(progress.storedBytes),
  );
  perCheckpoint(
    'thaw_checkpoint_present_bytes',
    'How much of a checkpoint is verified and on this node, as it is stored',
    ({ progress }) => Number(progress.presentBytes),
  );
  perCheckpoint(
    'thaw_checkpoint_wanted_chunks',
    'Chunks of a checkpoint that a restored process waits for now',
    ({ progress }) => progress.wantedChunks,
  );
}
