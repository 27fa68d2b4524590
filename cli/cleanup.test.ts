import { expect, it } from 'vitest';
import { Cleanup } from './cleanup.ts';

function recorder() {
  const done: string[] = [];
  const undo = (name: string) => async () => void done.push(name);
  return { done, undo };
}

it('undoes the last thing first', async () => {
  const { done, undo } = recorder();
  const cleanup = new Cleanup();
  cleanup.add('a', undo('a'));
  cleanup.add('b', undo('b'));
  expect(await cleanup.run()).toEqual([]);
  expect(done).toEqual(['b', 'a']);
});

it('goes on after a part that fails, and reports it', async () => {
  const { done, undo } = recorder();
  const cleanup = new Cleanup();
  cleanup.add('remove the view', undo('view'));
  cleanup.add('resume it', () => Promise.reject(new Error('no answer')));
  const failures = await cleanup.run();
  expect(failures.map(({ message }) => message)).toEqual(['Cannot resume it: no answer']);
  expect(done).toEqual(['view']);
});

it('undoes a part early, and only once', async () => {
  const { done, undo } = recorder();
  const cleanup = new Cleanup();
  const now = cleanup.add('resume', undo('resume'));
  await now();
  await now();
  await cleanup.run();
  expect(done).toEqual(['resume']);
});
