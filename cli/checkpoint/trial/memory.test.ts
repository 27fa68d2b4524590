import { expect, it } from 'vitest';
import { availableBytes, memoryObstacle } from './memory.ts';

it('reads what is available, not what is unused', () => {
  expect(availableBytes('MemTotal:  100 kB\nMemFree:  1 kB\nMemAvailable:      20 kB\n')).toBe(20480n);
});

it('has room for a little, not for everything', async () => {
  expect(await memoryObstacle(4096n)).toBeUndefined();
  expect(await memoryObstacle(1n << 60n)).toMatch(/^this node has .* and the container takes/);
});
