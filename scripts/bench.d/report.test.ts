import { expect, test } from 'vitest';
import { jsonReport, type Report, textReport } from './report.ts';

const report: Report = {
  bench: 'shim',
  metrics: [
    { name: 'cycle_c1', unit: 'ms', ours: [50, 60, 40], peer: [80, 100, 90], peerName: 'runc-v2' },
    { name: 'cpu', unit: 'ms', ours: [1], peer: [2], peerName: 'runc-v2', aside: true },
  ],
  notes: ['a note'],
};

test('the JSON has medians, their ratio and the number of runs', () => {
  expect(jsonReport(report)).toEqual({
    bench: 'shim',
    results: [
      { metric: 'cycle_c1', unit: 'ms', ours: 50, peer: 90, peer_name: 'runc-v2', ratio: 0.5556, runs: 3 },
    ],
  });
});

test('the ratio is of what was measured, not of what is printed', () => {
  const metrics = [{ name: 'x', unit: 'ms', ours: [1.234567], peer: [1.234564], peerName: 'p' }];
  expect(jsonReport({ bench: 'b', metrics, notes: [] }).results[0]).toMatchObject({ ours: 1.2346, ratio: 1 });
});

test('the table has every metric with quartiles, and the notes', () => {
  const lines = textReport(report).split('\n');
  expect(lines).toHaveLength(4);
  expect(lines[1]).toMatch(/^cycle_c1 +ms +50 +45-55 +90 +85-95 +0\.556 +0\.52-0\.61 +3 +runc-v2$/);
  expect(lines[2]).toMatch(/^cpu .* 0\.500 /);
  expect(lines[3]).toBe('a note');
});
