import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { renderBar, renderLine } from './bar.ts';
import { Progress } from './progress.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function target(isTTY: boolean) {
  const written: string[] = [];
  return { written, isTTY, columns: 60, write: (text: string) => written.push(text) };
}

describe('a step of known size', () => {
  const view = { label: 'Pushing', done: 512, total: 1024, elapsedMs: 2000 };
  it('is a bar on a terminal', () => {
    expect(renderBar(view, 200)).toBe(
      'Pushing  [============            ]  50 %  512 B of 1.00 KiB  256 B/s  2.0 s',
    );
  });
  it('stays on one line of a narrow terminal', () => expect(renderBar(view, 20)).toHaveLength(19));
  it('is words in a log', () => expect(renderLine(view)).toBe('Pushing: 50 %, 512 B of 1.00 KiB, 256 B/s'));
  it('never shows more than all of it', () => {
    expect(renderBar({ ...view, done: 5000 }, 200)).toContain('100 %');
  });
});

it('shows the time of a step of unknown size', () => {
  expect(renderLine({ label: 'Dumping', done: 0, total: undefined, elapsedMs: 3000 })).toBe('Dumping: 3.0 s');
});

it('writes about one line a second to a log, however often it is told', () => {
  const log = target(false);
  const progress = new Progress(log, () => Date.now());
  const step = progress.step('Packing', 1000);
  for (let i = 0; i < 100; i++) {
    vi.advanceTimersByTime(30);
    step.add(10);
  }
  step.finish('1000 B');
  expect(log.written.length).toBeGreaterThanOrEqual(3);
  expect(log.written.length).toBeLessThanOrEqual(4);
  expect(log.written.at(-1)).toBe('Packing: 1000 B (3.0 s)\n');
  expect(log.written.every((line) => line.endsWith('\n') && !line.includes('\r'))).toBe(true);
});

it('draws over one line on a terminal, and clears it for other text', () => {
  const terminal = target(true);
  const progress = new Progress(terminal, () => Date.now());
  progress.step('Dumping');
  progress.note('a warning');
  expect(terminal.written.at(-2)).toBe('\r\u001b[K');
  expect(terminal.written.at(-1)).toBe('a warning\n');
});

it('keeps the time of finished steps only, and ignores a step that was left', () => {
  const progress = new Progress(target(false), () => Date.now());
  const left = progress.step('Left');
  const done = progress.step('Done');
  vi.advanceTimersByTime(250);
  left.finish();
  done.finish();
  done.finish();
  expect(progress.times).toEqual([{ label: 'Done', ms: 250 }]);
});

it('holds no timer once a step was abandoned', () => {
  const progress = new Progress(target(false), () => Date.now());
  progress.step('Pushing');
  progress.abandon();
  expect(vi.getTimerCount()).toBe(0);
});
