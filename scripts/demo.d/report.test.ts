import { expect, test } from 'vitest';
import { Steps } from './report.ts';

test('a step shows its time and remark', async () => {
  let text = '';
  let clock = 0;
  const steps = new Steps(
    (part) => {
      text += part;
    },
    () => clock,
  );
  const work = async () => {
    clock = 1234;
    return 5;
  };
  expect(await steps.step('Pull', work, (n) => `${n} layers`)).toBe(5);
  expect(text).toMatch(/^Pull +1\.23 s {2}5 layers\n$/);
});

test('a step that fails says so and passes the error on', async () => {
  let text = '';
  const steps = new Steps(
    (part) => {
      text += part;
    },
    () => 0,
  );
  await expect(steps.step('Pull', () => Promise.reject(new Error('gone')))).rejects.toThrow('gone');
  expect(text).toMatch(/failed\n$/);
});

test('a step that writes itself has its time on a line of its own', async () => {
  let text = '';
  const write = (part: string) => {
    text += part;
  };
  await new Steps(write, () => 0).talkingStep('Save', async () => write('packing\n'));
  expect(text).toMatch(/^Save\npacking\n {2}done +0\.00 s\n$/);
});
