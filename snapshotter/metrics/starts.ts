/** How starts of containers that have a checkpoint went, as shims tell it. */
import { Counter, Histogram, type Registry } from 'prom-client';
import type { StartOutcome, StartPhase, StartReport } from '../checkpoints/start-report.ts';

/** Which outcomes are decided in which phase. */
const KNOWN: readonly (readonly [StartOutcome, readonly StartPhase[]])[] = [
  ['restored', ['restore']],
  ['cold', ['plan']],
  ['failed', ['fetch', 'restore']],
  ['refused', ['plan', 'fetch', 'restore']],
  ['filled', ['memory']],
  ['lost', ['memory']],
];

export class StartMetrics {
  readonly #restores: Counter<'outcome' | 'phase'>;
  readonly #seconds: Histogram<'phase'>;

  constructor(registers: Registry[]) {
    this.#restores = new Counter({
      name: 'thaw_restores_total',
      help: 'Starts of containers with a checkpoint, by how and in which phase they were decided; filled and lost are about restored ones, afterwards',
      labelNames: ['outcome', 'phase'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'thaw_restore_seconds',
      help: 'How long the phases of restores took',
      labelNames: ['phase'],
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
      registers,
    });
    for (const [outcome, phases] of KNOWN)
      for (const phase of phases) this.#restores.inc({ outcome, phase }, 0);
    for (const phase of ['plan', 'fetch', 'restore', 'memory'] as const) this.#seconds.zero({ phase });
  }

  told({ outcome, phase, times }: StartReport): void {
    this.#restores.inc({ outcome, phase });
    for (const time of times) this.#seconds.observe({ phase: time.phase }, time.ms / 1000);
  }
}
