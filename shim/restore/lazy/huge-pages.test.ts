import { expect, it } from 'vitest';
import { isNever, largeRuns } from './huge-pages.ts';

const MIB = 1n << 20n;
const pieces = (...runs: [address: bigint, pages: bigint][]) =>
  BigUint64Array.from(runs.flatMap(([address, pages]) => [address, 0n, pages]));

it('joins runs that follow one another, and leaves out what no huge page fits into', () => {
  const runs = pieces([MIB, 256n], [2n * MIB, 256n], [8n * MIB, 511n], [16n * MIB, 512n], [18n * MIB, 1n]);
  expect(largeRuns(runs)).toEqual([MIB, 3n * MIB, 16n * MIB, 18n * MIB + 4096n]);
  expect(largeRuns(new BigUint64Array())).toEqual([]);
});

it('knows the policy that wants none', () => {
  expect(isNever('always madvise [never]\n')).toBe(true);
  expect(isNever('always [madvise] never\n')).toBe(false);
});
