/** Who waits for which chunks of one checkpoint, over all attempts to fetch it. */
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';

interface Waiter {
  missing: Set<number>;
  settle(error?: unknown): void;
}

export class Demand {
  readonly #waiters = new Map<number, Set<Waiter>>();
  /** The attempt under way hears of new wishes here. */
  onWanted: (ordinals: readonly number[]) => void = () => {};

  /** Chunks that somebody waits for, first wanted first. */
  get ordinals(): number[] {
    return [...this.#waiters.keys()];
  }

  get size(): number {
    return this.#waiters.size;
  }

  has(ordinal: number): boolean {
    return this.#waiters.has(ordinal);
  }

  /** Resolves when all of them have arrived. Rejects with the first one's failure, or when `signal` aborts. */
  wait(ordinals: readonly number[], signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () =>
        waiter.settle(
          new SnapshotError(Code.canceled, 'The caller gave up waiting for chunks of the checkpoint', {
            cause: signal.reason,
          }),
        );
      const waiter: Waiter = {
        missing: new Set(ordinals),
        settle: (error) => {
          signal.removeEventListener('abort', onAbort);
          for (const ordinal of waiter.missing) this.#forget(ordinal, waiter);
          if (error === undefined) resolve();
          else reject(error);
        },
      };
      if (waiter.missing.size === 0) return resolve();
      for (const ordinal of waiter.missing) {
        const others = this.#waiters.get(ordinal);
        if (others) others.add(waiter);
        else this.#waiters.set(ordinal, new Set([waiter]));
      }
      if (signal.aborted) return onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      this.onWanted([...waiter.missing]);
    });
  }

  /** It is verified and written. */
  arrived(ordinal: number): void {
    for (const waiter of this.#waiters.get(ordinal) ?? []) {
      waiter.missing.delete(ordinal);
      if (waiter.missing.size === 0) waiter.settle();
    }
    this.#waiters.delete(ordinal);
  }

  /** It cannot be had, whoever tries. */
  failed(ordinal: number, error: unknown): void {
    for (const waiter of [...(this.#waiters.get(ordinal) ?? [])]) waiter.settle(error);
  }

  failAll(error: unknown): void {
    for (const ordinal of this.ordinals) this.failed(ordinal, error);
  }

  #forget(ordinal: number, waiter: Waiter): void {
    const waiters = this.#waiters.get(ordinal);
    waiters?.delete(waiter);
    if (waiters?.size === 0) this.#waiters.delete(ordinal);
  }
}
