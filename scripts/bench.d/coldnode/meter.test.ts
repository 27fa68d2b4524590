import { expect, it } from 'vitest';
import { parseTicks } from './meter.ts';

it('counts what waits for a disk as idle, and nothing twice or of other machines', () => {
  const text = [
    'cpu  3000 200 1000 5000 400 30 70 900 100 0',
    'cpu0 1500 100 500 2500 200 15 35 450 50 0',
    'intr 12345 0',
  ];
  expect(parseTicks(text.join('\n'))).toEqual({ idle: 5400, all: 9700 });
});
