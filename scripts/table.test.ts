import { expect, test } from 'vitest';
import { table } from './table.ts';

test('numbers stand in columns', () => {
  expect(
    table([
      ['', 'cold', 'restore'],
      ['pull', '12.00 s', '1.00 s'],
    ]),
  ).toBe('          cold   restore\npull   12.00 s    1.00 s');
});
