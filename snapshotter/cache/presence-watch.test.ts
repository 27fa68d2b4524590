import { expect, test } from 'vitest';
import { PresenceWatch } from './presence-watch.ts';

const never = new AbortController().signal;

test('changes in quick succession are told once, to all who wait', async () => {
  const watch = new PresenceWatch();
  let told = 0;
  const waiting = [0, 1].map(() => watch.change(never).then(() => told++));
  watch.notify();
  watch.notify();
  await Promise.resolve();
  expect(told).toBe(0);
  await Promise.all(waiting);
  expect(told).toBe(2);
});

test('who asks after a change waits for the next one', async () => {
  const watch = new PresenceWatch();
  const early = watch.change(never);
  watch.notify();
  let told = false;
  const late = watch.change(never).then(() => {
    told = true;
  });
  await early;
  await Promise.resolve();
  expect(told).toBe(false);
  watch.notify();
  await late;
});

test('without a change the wait ends, as it does when the caller goes', async () => {
  const watch = new PresenceWatch();
  await watch.change(never, 10);
  await watch.change(AbortSignal.abort());
  const gone = new AbortController();
  const waiting = watch.change(gone.signal);
  gone.abort();
  await waiting;
});
