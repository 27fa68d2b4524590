/**
 * What a Prometheus server may read of the daemon: counts and sizes, no names but those of checkpoints. Made by daemon.ts
 * where the configuration has an address for it; loaded only then.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { CacheEntry, EntryState } from '../cache/index.ts';

export { MetricsServer } from './server.ts';

export type FetchResult = 'complete' | 'failed';
/** `registry`: over the network. `node`: layers that containerd had pulled, and chunks that an earlier run had brought. */
export type ByteSource = 'registry' | 'node';

export interface CacheView {
  entries(): readonly CacheEntry[];
}

const states = ['idle', 'fetching', 'complete', 'failed'] as const satisfies readonly EntryState['kind'][];

export class Metrics {
  readonly #registry = new Registry();
  readonly #bytes: Counter<'source'>;
  readonly #fetches: Counter<'result'>;
  readonly #seconds: Histogram;
  readonly #removed: Counter<'reason'>;

  constructor(cache: CacheView) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#bytes = new Counter({
      name: 'thaw_fetch_bytes_total',
      help: 'Bytes of checkpoint layers that were read, as they are stored',
      labelNames: ['source'],
      registers,
    });
    this.#fetches = new Counter({
      name: 'thaw_fetches_total',
      help: 'Attempts to bring a checkpoint to this node that have ended',
      labelNames: ['result'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'thaw_fetch_seconds',
      help: 'How long attempts took that brought a checkpoint here',
      buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500],
      registers,
    });
    this.#removed = new Counter({
      name: 'thaw_cache_removed_total',
      help: 'Checkpoints taken out of the node cache: displaced by another one, evicted, or discarded as unusable',
      labelNames: ['reason'],
      registers,
    });
    // A rate over a counter that is not there before its first event misses that event.
    for (const source of ['registry', 'node'] as const) this.#bytes.inc({ source }, 0);
    for (const result of ['complete', 'failed'] as const) this.#fetches.inc({ result }, 0);
    for (const reason of ['displaced', 'evicted', 'discarded'] as const) this.#removed.inc({ reason }, 0);
    addGauges(this.#registry, cache);
  }

  read(source: ByteSource, bytes: number): void {
    this.#bytes.inc({ source }, bytes);
  }

  fetchEnded(result: FetchResult, ms: number): void {
    this.#fetches.inc({ result });
    if (result === 'complete') this.#seconds.observe(ms / 1000);
  }

  removed(reason: 'displaced' | 'evicted' | 'discarded'): void {
    this.#removed.inc({ reason });
  }

  /** In the text format of Prometheus. */
  render(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}

/** Read from the cache when they are asked for. */
function addGauges(registry: Registry, cache: CacheView): void {
  const registers = [registry];
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
