/** What was brought to this node, and what went from it. */
import { Counter, Histogram, type Registry } from 'prom-client';
import { FETCH_ERROR_KINDS, type FetchErrorKind } from '../fetch-errors.ts';

/**
 * `registry`, `mirror`: over the network. `unpacked`: from layers that containerd had pulled. `cache`: was here already
 * when a container asked for its checkpoint, or in another lazy layer.
 */
export const BYTE_SOURCES = ['registry', 'mirror', 'unpacked', 'cache'] as const;
export type ByteSource = (typeof BYTE_SOURCES)[number];

const RESULTS = ['complete', 'failed'] as const;
const REASONS = ['displaced', 'evicted', 'discarded'] as const;

export class FetchMetrics {
  readonly #bytes: Counter<'source'>;
  readonly #fetches: Counter<'result'>;
  readonly #errors: Counter<'kind'>;
  readonly #seconds: Histogram;
  readonly #removed: Counter<'reason'>;
  readonly #removedBytes: Counter<'reason'>;

  constructor(registers: Registry[]) {
    this.#bytes = new Counter({
      name: 'thaw_fetch_bytes_total',
      help: 'Bytes of checkpoint layers that were read or found here, as they are stored',
      labelNames: ['source'],
      registers,
    });
    this.#fetches = new Counter({
      name: 'thaw_fetches_total',
      help: 'Attempts to bring a checkpoint to this node that have ended',
      labelNames: ['result'],
      registers,
    });
    this.#errors = new Counter({
      name: 'thaw_fetch_errors_total',
      help: 'Attempts to bring a checkpoint or its index here that failed, by what was wrong',
      labelNames: ['kind'],
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
    this.#removedBytes = new Counter({
      name: 'thaw_cache_removed_bytes_total',
      help: 'Disk space that was free again when they were taken out',
      labelNames: ['reason'],
      registers,
    });
    // A rate over a counter that is not there before its first event misses that event.
    for (const source of BYTE_SOURCES) this.#bytes.inc({ source }, 0);
    for (const result of RESULTS) this.#fetches.inc({ result }, 0);
    for (const kind of FETCH_ERROR_KINDS) this.#errors.inc({ kind }, 0);
    for (const reason of REASONS) {
      this.#removed.inc({ reason }, 0);
      this.#removedBytes.inc({ reason }, 0);
    }
  }

  read(source: ByteSource, bytes: number): void {
    this.#bytes.inc({ source }, bytes);
  }

  completed(ms: number): void {
    this.#fetches.inc({ result: 'complete' });
    this.#seconds.observe(ms / 1000);
  }

  failed(kind: FetchErrorKind): void {
    this.#fetches.inc({ result: 'failed' });
    this.#errors.inc({ kind });
  }

  /** Of an index: no attempt to bring a checkpoint here begins without one. */
  indexFailed(kind: FetchErrorKind): void {
    this.#errors.inc({ kind });
  }

  removed(reason: (typeof REASONS)[number], bytes: number): void {
    this.#removed.inc({ reason });
    this.#removedBytes.inc({ reason }, bytes);
  }
}
