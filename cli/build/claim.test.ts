import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import { Cleanup } from '../cleanup.ts';
import { claim } from './claim.ts';

it('one at a time has a name', async () => {
  const name = `claim-${randomUUID()}`;
  const [first, second] = [new Cleanup(), new Cleanup()];
  await claim(name, first);
  await claim(`${name}-other`, first);
  await expect(claim(name, second)).rejects.toThrow('the same build runs on this node already');
  expect(await second.run()).toEqual([]);
  await expect(claim(name, second)).rejects.toThrow('already');
  expect(await first.run()).toEqual([]);
  await claim(name, second);
  await second.run();
});
