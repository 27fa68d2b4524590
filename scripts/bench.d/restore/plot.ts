/** A plot of resident memory over time as SVG. Pure. */
import type { Point } from './curve.ts';

export interface Curve {
  name: string;
  points: readonly Point[];
  /** When the restored process answered first. */
  heartbeatMs: number;
}

const size = { width: 760, height: 400 };
const box = { left: 64, right: 24, top: 48, bottom: 48 };
const colors = ['#0b62a8', '#c2410c', '#4d7c0f', '#7c3aed'];
const GIB = 2 ** 30;

export function plot(title: string, curves: readonly Curve[]): string {
  const points = curves.flatMap((curve) => curve.points);
  const lastMs = Math.max(1, ...points.map(({ ms }) => ms), ...curves.map(({ heartbeatMs }) => heartbeatMs));
  const mostBytes = Math.max(1, ...points.map(({ bytes }) => bytes));
  const seconds = axis(lastMs / 1000);
  const gib = axis(mostBytes / GIB);
  const inner = {
    width: size.width - box.left - box.right,
    height: size.height - box.top - box.bottom,
  };
  const x = (s: number) => round(box.left + (s / seconds.end) * inner.width);
  const y = (g: number) => round(size.height - box.bottom - (g / gib.end) * inner.height);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${size.width}" height="${size.height}" fill="#fff"/>`,
    `<text x="${box.left}" y="20" font-size="14" fill="#111">${escaped(title)}</text>`,
    ...gib.ticks.flatMap((g) => [
      `<line x1="${box.left}" x2="${size.width - box.right}" y1="${y(g)}" y2="${y(g)}" stroke="#ddd"/>`,
      text(box.left - 8, y(g) + 4, 'end', String(g)),
    ]),
    ...seconds.ticks.flatMap((s) => [
      `<line x1="${x(s)}" x2="${x(s)}" y1="${y(0)}" y2="${y(0) + 5}" stroke="#666"/>`,
      text(x(s), y(0) + 18, 'middle', String(s)),
    ]),
    text(size.width - box.right, size.height - 10, 'end', 'seconds since the restore was asked for'),
    text(box.left - 8, box.top - 12, 'end', 'GiB'),
    ...curves.flatMap((curve, i) => {
      const color = colors[i % colors.length] ?? '#111';
      const path = curve.points.map(({ ms, bytes }) => `${x(ms / 1000)},${y(bytes / GIB)}`).join(' ');
      const beat = curve.heartbeatMs / 1000;
      const legendX = size.width - box.right - (curves.length - i) * 110;
      return [
        `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"/>`,
        `<circle cx="${x(beat)}" cy="${y(bytesAt(curve.points, curve.heartbeatMs) / GIB)}" r="5" fill="#fff" stroke="${color}" stroke-width="2"/>`,
        `<line x1="${legendX}" x2="${legendX + 20}" y1="34" y2="34" stroke="${color}" stroke-width="2"/>`,
        text(legendX + 26, 38, 'start', curve.name),
      ];
    }),
    `<circle cx="${box.left + 6}" cy="34" r="5" fill="#fff" stroke="#666" stroke-width="2"/>`,
    text(box.left + 18, 38, 'start', 'first heartbeat'),
    '</svg>',
    '',
  ].join('\n');
}

/** The last sample before that moment. */
export function bytesAt(points: readonly Point[], ms: number): number {
  return points.findLast((point) => point.ms <= ms)?.bytes ?? 0;
}

/** Round steps, at most eight, up to the first that is not below `most`. */
export function axis(most: number): { end: number; ticks: number[] } {
  const magnitude = 10 ** Math.floor(Math.log10(most / 8));
  const step = ([1, 2, 5].find((factor) => most / (factor * magnitude) <= 8) ?? 10) * magnitude;
  const count = Math.ceil(most / step - 1e-9);
  const decimals = Math.max(0, -Math.floor(Math.log10(step)));
  const ticks = Array.from({ length: count + 1 }, (_, i) => Number((i * step).toFixed(decimals)));
  return { end: count * step, ticks };
}

function text(x: number, y: number, anchor: string, content: string): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" fill="#444">${escaped(content)}</text>`;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
