import { describe, expect, test } from 'vitest';
import { Calm } from './calm.ts';

const never = new AbortController().signal;
const turn = () => new Promise((resolve) => setTimeout(resolve, 3));

/** A clock that only moves by hand, and whether a wait is over. */
function bed() {
  let now = 0;
  const calm = new Calm({ ms: 10, atMostMs: 1000, clock: () => now });
  const pass = async (ms: number) => {
    now += ms;
    await turn();
  };
  const waiting = (enough = () => false, signal = never) => {
    const state = { over: false };
    void calm.wait(enough, signal).then(() => {
      state.over = true;
    });
    return state;
  };
  return { calm, pass, waiting };
}

describe('Calm', () => {
  test('where nothing was fetched yet nobody waits', async () => {
    const { pass, waiting } = bed();
    const wait = waiting();
    await pass(0);
    expect(wait.over).toBe(true);
  });

  test('it is calm so long after the last of several has ended', async () => {
    const { calm, pass, waiting } = bed();
    calm.begin();
    calm.begin();
    const wait = waiting();
    await pass(100);
    calm.end();
    await pass(100);
    expect(wait.over).toBe(false);
    calm.end();
    await pass(9);
    expect(wait.over).toBe(false);
    await pass(1);
    expect(wait.over).toBe(true);
  });

  test('another one in that time begins it anew', async () => {
    const { calm, pass, waiting } = bed();
    calm.begin();
    calm.end();
    const wait = waiting();
    await pass(9);
    calm.begin();
    calm.end();
    await pass(9);
    expect(wait.over).toBe(false);
    await pass(1);
    expect(wait.over).toBe(true);
  });

  test('what never ends is waited for only so long', async () => {
    const { calm, pass, waiting } = bed();
    calm.begin();
    const wait = waiting();
    await pass(999);
    expect(wait.over).toBe(false);
    await pass(1);
    expect(wait.over).toBe(true);
  });

  test('enough, or an abort, ends the wait', async () => {
    const { calm, pass, waiting } = bed();
    calm.begin();
    let many = false;
    const stop = new AbortController();
    const waits = [waiting(() => many), waiting(() => false, stop.signal)];
    await pass(100);
    expect(waits.map(({ over }) => over)).toEqual([false, false]);
    many = true;
    await turn();
    expect(waits.map(({ over }) => over)).toEqual([true, false]);
    stop.abort();
    await turn();
    expect(waits.map(({ over }) => over)).toEqual([true, true]);
  });
});
