import { expect, test } from 'vitest';
import { anonymousBytes } from './curve.ts';
import { axis, bytesAt, plot } from './plot.ts';

test('an axis has round steps and ends at or above the largest value', () => {
  expect(axis(4)).toEqual({ end: 4, ticks: [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4] });
  expect(axis(1.7)).toEqual({ end: 2, ticks: [0, 0.5, 1, 1.5, 2] });
  expect(axis(0.25).end).toBe(0.25);
  expect(axis(17).ticks).toEqual([0, 5, 10, 15, 20]);
});

test('the memory at a moment is that of the last sample before it', () => {
  const points = [
    { ms: 0, bytes: 0 },
    { ms: 10, bytes: 5 },
    { ms: 20, bytes: 9 },
  ];
  expect(bytesAt(points, 15)).toBe(5);
  expect(bytesAt(points, 20)).toBe(9);
  expect(bytesAt([], 20)).toBe(0);
});

test('a plot has one line and one mark for each curve, and names are escaped', () => {
  const points = [
    { ms: 0, bytes: 0 },
    { ms: 1000, bytes: 2 ** 30 },
  ];
  const svg = plot('<x>', [
    { name: 'a', points, heartbeatMs: 10 },
    { name: 'b', points, heartbeatMs: 1000 },
  ]);
  expect(svg.match(/<polyline /g)).toHaveLength(2);
  // From the lower left corner to the upper right one.
  expect(svg).toContain('points="64,352 736,48"');
  expect(svg).toContain('>&lt;x></text>');
  expect(svg).toContain('<title>&lt;x></title>');
});

test('anonymous memory of a status file; none in a process that is ending', () => {
  expect(anonymousBytes('Name:\tworker\nRssAnon:\t     128 kB\nRssFile:\t 4 kB\n')).toBe(128 * 1024);
  expect(anonymousBytes('Name:\tworker\nState:\tZ (zombie)\n')).toBe(0);
});
