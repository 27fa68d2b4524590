import { expect, it } from 'vitest';
import { expectCaptured, memoryOf } from './captured.ts';

const GIB = 2 ** 30;

it('counts what a process has of its own, also on swap', () => {
  const status =
    'Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  300 kB\nRssShmem:\t  500 kB\nVmSwap:\t  7 kB\n';
  expect(memoryOf(status)).toBe(607 * 1024);
  expect(memoryOf('')).toBe(0);
});

it.each([
  // As measured on an H100: 1, 8 and 32 GiB besides a context.
  [1.62e9, 1.07e9, 1],
  [9.14e9, 8.6e9, 1],
  [34.9e9, 34.4e9, 1],
  // Contexts alone.
  [0.55e9, 0, 1],
  [1.1e9, 0, 2],
])('takes %d bytes on GPUs for captured by %d', (gpuBytes, grown, processes) => {
  expect(() => expectCaptured(gpuBytes, grown, processes)).not.toThrow();
});

it('says so where they did not come', () => {
  expect(() => expectCaptured(30 * GIB, 4.4 * GIB, 1)).toThrow(/of 30720 MiB there 4506 MiB have come/);
  expect(() => expectCaptured(8 * GIB, -GIB, 2)).toThrow(/of 8192 MiB there 0 MiB/);
});
