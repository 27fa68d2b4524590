/** What a bench prints: a table for people, one JSON object for programs. Pure. */
import { table } from '../table.ts';
import { median, pairedRatios, type Spread, spread } from './statistics.ts';

export interface Metric {
  name: string;
  unit: string;
  /** One sample a run: `ours[i]` and `peer[i]` were taken side by side. */
  ours: readonly number[];
  peer: readonly number[];
  peerName: string;
  /** Only for the table: it explains another metric and is not compared by anyone. */
  aside?: boolean;
}

export interface Report {
  bench: string;
  metrics: readonly Metric[];
  /** What a reader must know besides, such as that the run was a quick one. */
  notes: readonly string[];
  /** What could not be measured, and why; the rest is reported all the same. */
  failures?: readonly string[];
}

export interface JsonResult {
  metric: string;
  unit: string;
  ours: number;
  peer: number;
  peer_name: string;
  /** Ours divided by the peer's. */
  ratio: number;
  runs: number;
}

export interface JsonReport {
  bench: string;
  results: JsonResult[];
}

/** The medians, and their ratio. */
export function jsonReport(report: Report): JsonReport {
  return {
    bench: report.bench,
    results: report.metrics
      .filter((metric) => metric.aside !== true)
      .map((metric) => {
        const [ours, peer] = [median(metric.ours), median(metric.peer)];
        return {
          metric: metric.name,
          unit: metric.unit,
          ours: digits(ours, 5),
          peer: digits(peer, 5),
          peer_name: metric.peerName,
          ratio: digits(ours / peer, 4),
          runs: metric.ours.length,
        };
      }),
  };
}

/**
 * Medians with their quartiles. "pairwise" is the ratio within each pair of neighbouring runs: what disturbs the machine
 * for longer than a run disturbs both alike, so it spreads less than the numbers themselves.
 */
export function textReport(report: Report): string {
  const head = ['', 'unit', 'ours', 'quartiles', 'peer', 'quartiles', 'ratio', 'pairwise', 'runs', ''];
  const rows = report.metrics.map((metric) => {
    const [ours, peer] = [spread(metric.ours), spread(metric.peer)];
    return [
      metric.name,
      metric.unit,
      number(ours.median),
      quartiles(ours),
      number(peer.median),
      quartiles(peer),
      (ours.median / peer.median).toFixed(3),
      quartiles(spread(pairedRatios(metric.ours, metric.peer)), 2),
      String(metric.ours.length),
      metric.peerName,
    ];
  });
  return [table([head, ...rows]), ...report.notes].join('\n');
}

function quartiles({ low, high }: Spread, decimals?: number): string {
  return low === high ? '' : `${number(low, decimals)}-${number(high, decimals)}`;
}

function number(value: number, decimals = value >= 1000 ? 0 : value >= 100 ? 1 : 2): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(decimals);
}

function digits(value: number, count: number): number {
  return Number(value.toPrecision(count));
}
