/** Statistics of a few samples. Pure; every function refuses an empty list, which would be a made-up number. */
import { Code } from '../../proto/status.ts';
import { BenchError } from './error.ts';

export interface Spread {
  median: number;
  /** First and third quartile. */
  low: number;
  high: number;
}

/** The value below which a share of the samples lies, between two samples by linear interpolation. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const position = (sorted.length - 1) * share;
  const below = sorted[Math.floor(position)];
  const above = sorted[Math.ceil(position)];
  if (below === undefined || above === undefined)
    throw new BenchError(Code.failedPrecondition, 'Nothing was measured');
  return below + (above - below) * (position - Math.floor(position));
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

export function spread(samples: readonly number[]): Spread {
  return { median: median(samples), low: quantile(samples, 0.25), high: quantile(samples, 0.75) };
}

/** The ratio in each pair of samples that were taken side by side. */
export function pairedRatios(ours: readonly number[], theirs: readonly number[]): number[] {
  if (ours.length !== theirs.length)
    throw new BenchError(Code.internal, `${ours.length} samples cannot be paired with ${theirs.length}`);
  return ours.map((value, i) => value / (theirs[i] ?? Number.NaN));
}
