import { expect, it } from 'vitest';
import { native } from './index.ts';

it('measures the touch of a page: more than nothing, less than a read from a disk', () => {
  const cost = native.touchCost();
  expect(cost).toBeGreaterThan(0);
  expect(cost).toBeLessThan(10_000_000);
});
