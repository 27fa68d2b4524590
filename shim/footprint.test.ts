import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { engine } from './engine.ts';
import { CALLS_UNTIL_STEADY, Footprint, IDLE_MS, WORTHWHILE_BYTES } from './footprint.ts';

let resident: number;
let done: string[];
let footprint: Footprint;

beforeEach(() => {
  vi.useFakeTimers();
  resident = 10_000_000;
  done = [];
  footprint = new Footprint({
    calls: { trimMemory: () => void done.push('trim') },
    resident: () => resident,
    engine: async () => ({
      collectGarbage: () => {
        done.push('collect');
        resident = 5_000_000;
      },
      stopOptimizing: () => void done.push('steady'),
    }),
    keepCode: () => void done.push('keep'),
    onError: (error) => expect.fail(String(error)),
  });
});
afterEach(() => vi.useRealTimers());

it('collects garbage when the calls have stopped, not between them', async () => {
  for (let i = 0; i < 5; i += 1) {
    footprint.called();
    await vi.advanceTimersByTimeAsync(IDLE_MS - 1);
  }
  expect(done).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(done).toEqual(['keep', 'collect', 'trim']);
});

it('collects again only when there is enough', async () => {
  const idle = async () => {
    footprint.called();
    await vi.advanceTimersByTimeAsync(IDLE_MS);
  };
  await idle();
  resident += WORTHWHILE_BYTES - 1;
  await idle();
  expect(done).toHaveLength(3);
  resident += 1;
  await idle();
  expect(done).toHaveLength(6);
});

it('stops optimizing once, when it has seen many calls', async () => {
  for (let i = 1; i < CALLS_UNTIL_STEADY; i += 1) footprint.called();
  await vi.advanceTimersByTimeAsync(0);
  expect(done).toEqual([]);
  for (let i = 0; i < 2 * CALLS_UNTIL_STEADY; i += 1) footprint.called();
  await vi.advanceTimersByTimeAsync(0);
  expect(done).toEqual(['keep', 'steady']);
  // Under other flags V8 would refuse what is kept.
  footprint.ending();
  expect(done).toEqual(['keep', 'steady']);
});

it('keeps code at the end of a server that was called, and of no other', () => {
  footprint.ending();
  expect(done).toEqual([]);
  footprint.called();
  footprint.ending();
  expect(done).toEqual(['keep']);
});

it('frees what nobody holds', async () => {
  vi.useRealTimers();
  const held = new WeakRef({ text: 'x'.repeat(1000) });
  // A WeakRef keeps its target until the end of the job that made it.
  await new Promise((resolve) => setImmediate(resolve));
  engine.collectGarbage();
  expect(held.deref()).toBeUndefined();
  expect((globalThis as { gc?: unknown }).gc).toBeUndefined();
});

it('names flags that this V8 knows', async () => {
  const index = join(import.meta.dirname, 'engine.ts');
  const program = `import { engine } from ${JSON.stringify(index)}; engine.stopOptimizing(); engine.collectGarbage();`;
  const args = ['--input-type=module', '-e', program];
  // V8 says of one that it does not know that it is unrecognized, and goes on.
  const { stderr } = await promisify(execFile)(process.execPath, args, { timeout: 10_000 });
  expect(stderr).not.toContain('unrecognized');
});
