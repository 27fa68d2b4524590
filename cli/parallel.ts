import { checkInterrupted } from './cleanup.ts';

/**
 * Runs `work` for every item, at most `limit` at a time. The first failure stops the others through the signal that
 * they get, and is thrown once all have ended.
 */
export async function inParallel<Item>(
  items: Iterable<Item>,
  limit: number,
  signal: AbortSignal,
  work: (item: Item, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  const queue = items[Symbol.iterator]();
  let failure: { error: unknown } | undefined;
  const worker = async () => {
    while (!stop.aborted) {
      const next = queue.next();
      if (next.done) return;
      try {
        await work(next.value, stop);
      } catch (error) {
        failure ??= { error };
        failed.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: limit }, worker));
  if (failure) throw failure.error;
  checkInterrupted(signal);
}
