/**
 * What a Prometheus server may read of the daemon: counts and sizes, no names but those of checkpoints. Made by daemon.ts
 * where the configuration has an address for it; loaded only then.
 */
import { collectDefaultMetrics, Registry } from 'prom-client';
import { addCacheGauges, type CacheView } from './cache-gauges.ts';
import { FetchMetrics } from './fetches.ts';
import { RpcMetrics } from './rpcs.ts';
import { StartMetrics } from './starts.ts';

export { MetricsServer } from './server.ts';

export class Metrics {
  readonly fetches: FetchMetrics;
  readonly rpcs: RpcMetrics;
  readonly starts: StartMetrics;
  readonly #registry = new Registry();

  constructor(cache: CacheView, maxCacheBytes?: number) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.rpcs = new RpcMetrics(registers);
    this.fetches = new FetchMetrics(registers);
    this.starts = new StartMetrics(registers);
    addCacheGauges(registers, cache, maxCacheBytes);
  }

  /** In the text format of Prometheus. */
  render(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}
