import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ExitStatus } from '../../native/index.ts';
import { type ExitCalls, ExitWatcher } from './exits.ts';

/** A kernel with children that end when told to. */
class FakeKernel implements ExitCalls {
  readonly alive = new Map<number, 'running' | 'zombie'>();
  readonly reaped: number[] = [];
  readonly #waits = new Map<number, (error: Error | null, status?: ExitStatus) => void>();

  pidfdOpen(pid: number): number {
    if (!this.alive.has(pid)) throw Object.assign(new Error('no such process'), { code: 'ESRCH' });
    return pid + 1000;
  }
  pidfdWait(pidfd: number, done: (error: Error | null, status?: ExitStatus) => void): void {
    this.#waits.set(pidfd - 1000, done);
  }
  children(): number[] {
    return [...this.alive.keys()];
  }
  reapZombie(pid: number): ExitStatus | undefined {
    if (this.alive.get(pid) !== 'zombie') return undefined;
    this.alive.delete(pid);
    this.reaped.push(pid);
    return { code: 0, signal: 0 };
  }
  realtime(): bigint {
    return 1_500_000_000n;
  }
  end(pid: number, status: ExitStatus): void {
    this.alive.delete(pid);
    this.#waits.get(pid)?.(null, status);
  }
}

let kernel: FakeKernel;
let errors: unknown[];
let watcher: ExitWatcher;
const owned = new Set<number>();
beforeEach(() => {
  vi.useFakeTimers();
  kernel = new FakeKernel();
  errors = [];
  owned.clear();
  watcher = new ExitWatcher({
    calls: kernel,
    ownedElsewhere: (pid) => owned.has(pid),
    onError: (error) => errors.push(error),
  });
});
afterEach(() => vi.useRealTimers());

describe('ExitWatcher', () => {
  it('tells how and when a process ended', async () => {
    kernel.alive.set(7, 'running');
    const exit = watcher.watch(7);
    kernel.end(7, { code: 143, signal: 15 });
    expect(await exit).toEqual({ status: 143, at: 1_500_000_000n });
  });

  it('answers 255 for a process that is no child and gone', async () => {
    expect(await watcher.watch(7)).toEqual({ status: 255, at: 1_500_000_000n });
    expect(errors).toHaveLength(1);
  });

  it('reaps strangers once whoever waits for them had time to', () => {
    kernel.alive.set(1, 'zombie').set(2, 'zombie').set(3, 'zombie').set(4, 'running');
    owned.add(2);
    void watcher.watch(3);
    watcher.childEnded(500);
    vi.advanceTimersByTime(500);
    expect(kernel.reaped).toEqual([]);
    vi.advanceTimersByTime(500);
    expect(kernel.reaped).toEqual([1]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('reaps a stranger that ends later', () => {
    kernel.alive.set(4, 'running');
    watcher.childEnded(500);
    vi.advanceTimersByTime(2000);
    kernel.alive.set(4, 'zombie');
    watcher.childEnded(500);
    vi.advanceTimersByTime(500);
    expect(kernel.reaped).toEqual([4]);
  });

  it('never reaps a process that ended before its pid was known', async () => {
    const made = Promise.withResolvers<void>();
    const watched = watcher.holding(async () => {
      await made.promise;
      return { exit: watcher.watch(9) };
    });
    kernel.alive.set(9, 'zombie');
    watcher.childEnded(500);
    await vi.advanceTimersByTimeAsync(5000);
    expect(kernel.reaped).toEqual([]);
    made.resolve();
    const { exit } = await watched;
    await vi.advanceTimersByTimeAsync(5000);
    expect(kernel.reaped).toEqual([]);
    kernel.end(9, { code: 3, signal: 0 });
    expect(await exit).toMatchObject({ status: 3 });
  });
});
