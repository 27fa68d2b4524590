import { expect, it } from 'vitest';
import { Limiter } from './limiter.ts';

it('runs so many at a time, in order, and what is in the background after all else', async () => {
  const limiter = new Limiter(2);
  const ran: string[] = [];
  const gates: (() => void)[] = [];
  const start = (name: string, background: boolean) =>
    limiter.run(
      () => {
        ran.push(name);
        return new Promise<void>((resolve) => gates.push(resolve));
      },
      { background },
    );
  const all = [
    start('first', true),
    start('second', false),
    start('rest 1', true),
    start('rest 2', true),
    start('third', false),
    start('fourth', false),
  ];
  expect(ran).toEqual(['first', 'second']);
  for (let i = 0; i < all.length; i++) {
    gates.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(all);
  expect(ran).toEqual(['first', 'second', 'third', 'fourth', 'rest 1', 'rest 2']);
});
