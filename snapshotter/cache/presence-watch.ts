/** Long polls for what is present of a checkpoint. */

/** Changes within so long are told at once: a fetch brings hundreds of chunks a second. */
const COALESCE_MS = 5;
const LONGEST_MS = 10_000;

export class PresenceWatch {
  readonly #waiting = new Set<() => void>();
  readonly #due = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;

  /** Something became present, or the state changed. */
  notify(): void {
    for (const tell of this.#waiting) this.#due.add(tell);
    if (this.#due.size === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      for (const tell of [...this.#due]) tell();
    }, COALESCE_MS);
  }

  /** Resolves a little after the next change; without one after `longestMs`, or when `signal` aborts. */
  change(signal: AbortSignal, longestMs = LONGEST_MS): Promise<void> {
    return new Promise((resolve) => {
      const tell = () => {
        clearTimeout(longest);
        signal.removeEventListener('abort', tell);
        this.#waiting.delete(tell);
        this.#due.delete(tell);
        resolve();
      };
      const longest = setTimeout(tell, longestMs).unref();
      if (signal.aborted) return tell();
      signal.addEventListener('abort', tell, { once: true });
      this.#waiting.add(tell);
    });
  }
}
