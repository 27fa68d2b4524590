import { expect, it, onTestFinished, vi } from 'vitest';
import { Limiter } from './limiter.ts';
import type { Rank } from './rank.ts';

const settled = () => new Promise((resolve) => setImmediate(resolve));

function piecesOf(limiter: Limiter) {
  const done: string[] = [];
  const gates: (() => void)[] = [];
  const start = (name: string, rank: Rank, pieces: number, signal?: AbortSignal) => {
    let left = pieces;
    const piece = async () => {
      if (left === 0) return false;
      done.push(`${name}${left--}`);
      await new Promise<void>((resolve) => gates.push(resolve));
      return true;
    };
    return limiter.each(rank, piece, signal);
  };
  /** The oldest piece ends. */
  const next = async () => {
    gates.shift()?.();
    await settled();
  };
  return { done, start, next };
}

it('does so many at a time, by rank and then in order, and gives no turn away to who is behind', async () => {
  const { done, start, next } = piecesOf(new Limiter(2));
  const all = [
    start('rest', 'background', 2),
    start('a', 'stream', 3),
    start('b', 'stream', 2),
    start('lead', 'lead', 2),
  ];
  await settled();
  expect(done).toEqual(['rest2', 'a3']);
  for (let i = 0; i < 8; i++) await next();
  expect(done).toEqual(['rest2', 'a3', 'lead2', 'b2', 'lead1', 'a2', 'b1', 'a1']);
  await vi.waitUntil(() => done.at(-1) === 'rest1');
  await next();
  await Promise.all(all);
});

it('leaves the background waiting while anything else is done, though there is room, and for a while after', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const { done, start, next } = piecesOf(new Limiter(4, { calmMs: 1000 }));
  const first = start('a', 'stream', 1);
  const rest = start('rest', 'background', 1);
  await settled();
  expect(done).toEqual(['a1']);
  await next();
  await first;
  vi.advanceTimersByTime(999);
  await settled();
  const second = start('b', 'stream', 1);
  await settled();
  vi.advanceTimersByTime(5000);
  await settled();
  expect(done).toEqual(['a1', 'b1']);
  await next();
  await second;
  vi.advanceTimersByTime(999);
  await settled();
  expect(done).toEqual(['a1', 'b1']);
  vi.advanceTimersByTime(1);
  await settled();
  expect(done).toEqual(['a1', 'b1', 'rest1']);
  await next();
  await rest;
});

it('waits for calm no longer than for its signal', async () => {
  const { done, start, next } = piecesOf(new Limiter(4, { calmMs: 60_000 }));
  const first = start('a', 'stream', 1);
  const ended = new AbortController();
  const rest = start('rest', 'background', 1, ended.signal);
  await settled();
  ended.abort();
  await rest;
  expect(done).toEqual(['a1']);
  await next();
  await first;
});
