import { expect, it } from 'vitest';
import { formatOrder, parseOrder } from './trial-files.ts';

it('reads what was written', () => {
  expect(parseOrder(formatOrder(Uint32Array.of(7, 0, 4_000_000_000)))).toEqual([7, 0, 4_000_000_000]);
  expect(parseOrder(formatOrder([]))).toEqual([]);
});

it.each(['', '{}', '[1,-1]', '[1.5]', '["1"]', '[null]'])('refuses %j', (text) => {
  expect(() => parseOrder(text)).toThrow(/Cannot read the recorded order/);
});
