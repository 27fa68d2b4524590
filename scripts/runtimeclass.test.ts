import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { measuredBytes, overheadMib, runtimeClass } from './runtimeclass.ts';

const file = (path: string) => readFileSync(join(import.meta.dirname, '..', path), 'utf8');

it('the overhead is twice what was measured, in steps', () => {
  expect(measuredBytes('| proportional memory of an idle pod | 13.3 MB | 5.5 MB | 2.42 |')).toBe(13_300_000);
  expect([1, 4 << 20, 5 << 20, 13_300_000].map(overheadMib)).toEqual([8, 8, 16, 32]);
  expect(() => measuredBytes('')).toThrow(/no row/);
});

it('deploy/kubernetes/runtimeclass.yaml is what the documentation has measured', () => {
  const made = runtimeClass(measuredBytes(file('docs/performance.md')));
  expect(file('deploy/kubernetes/runtimeclass.yaml')).toBe(made);
});
