import { describe, expect, it } from 'vitest';
import type { NodeCheckpoint } from './daemon.ts';
import { statusLines } from './status.ts';
import { drawer, Rates } from './watch.ts';

const id = `sha256:${'a'.repeat(64)}`;
const fetching = (presentBytes: bigint): NodeCheckpoint => ({
  id,
  image: 'r/a:1',
  state: 'fetching',
  storedBytes: 4096n,
  presentBytes,
  fetchedBytes: presentBytes,
  wantedChunks: 0,
  error: '',
});

function screenOf(live: boolean) {
  const written: string[] = [];
  return { written, screen: { live, write: (text: string) => void written.push(text) } };
}

it('shows how fast a checkpoint comes, and how long the rest will take', () => {
  let now = 0;
  const rates = new Rates(() => now);
  rates.see([fetching(0n)]);
  expect(rates.of(id)).toBe(0);
  now = 2_000;
  rates.see([fetching(2048n)]);
  expect(rates.of(id)).toBe(1024);
  expect(statusLines({ checkpoints: [fetching(2048n)], layers: [] }, (of) => rates.of(of))).toEqual([
    'ID                    STATE     HERE    STORED   FETCHED  WANTED        RATE   LEFT  IMAGE',
    'sha256:aaaaaaaaaaaa…  fetching  50 %  4.00 KiB  2.00 KiB       0  1.00 KiB/s  2.0 s  r/a:1',
  ]);
  // Evicted and fetched again: less than before.
  now = 3_000;
  rates.see([fetching(0n)]);
  expect(rates.of(id)).toBe(0);
});

describe('drawing', () => {
  it('goes over the lines before on a terminal', () => {
    const { written, screen } = screenOf(true);
    const draw = drawer({ screen });
    draw(['a', 'b']);
    draw(['c']);
    expect(written).toEqual(['a\nb\n', '\u001b[2A\r\u001b[Jc\n']);
  });
  it('writes only changes elsewhere', () => {
    const { written, screen } = screenOf(false);
    const draw = drawer({ screen });
    for (const line of ['a', 'a', 'b']) draw([line]);
    expect(written).toEqual(['a\n', '\nb\n']);
  });
});
