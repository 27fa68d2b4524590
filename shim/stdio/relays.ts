/** The native relays of one process. */
import type { Descriptors } from './descriptors.ts';
import type { PipeCalls } from './process-io.ts';

interface Relay {
  id: number;
  output: boolean;
  done: Promise<void>;
}

export class Relays {
  readonly #calls: Pick<PipeCalls, 'relayStart' | 'relayStop' | 'relayDrain'>;
  readonly #fds: Descriptors;
  readonly #relays: Relay[] = [];
  readonly #onError: (error: unknown) => void;

  /** `fds` own what a relay has not taken over yet. */
  constructor(
    calls: Pick<PipeCalls, 'relayStart' | 'relayStop' | 'relayDrain'>,
    fds: Descriptors,
    onError: (error: unknown) => void,
  ) {
    this.#calls = calls;
    this.#fds = fds;
    this.#onError = onError;
  }

  /** Takes both descriptors; resolves when the relay ended. `output` comes from the process. */
  start(from: number, to: number, output: boolean): Promise<void> {
    let id: number | undefined;
    const done = new Promise<void>((resolve) => {
      id = this.#calls.relayStart(from, to, (error) => {
        if (error && !isEnd(error)) this.#onError(error);
        resolve();
      });
    });
    this.#fds.release(from);
    this.#fds.release(to);
    if (id !== undefined) this.#relays.push({ id, output, done });
    return done;
  }

  /** Outputs end as soon as nothing is left to move. */
  drain(): void {
    for (const { id, output } of this.#relays) if (output) this.#calls.relayDrain(id);
  }

  /** Waits until all that the process wrote is with the client, at most `limitMs`. */
  async outputs(limitMs: number): Promise<void> {
    await within(Promise.all(this.#relays.filter(({ output }) => output).map(({ done }) => done)), limitMs);
  }

  /** Ends all of them; what can be moved at once still is. */
  async stop(): Promise<void> {
    for (const { id } of this.#relays) this.#calls.relayStop(id);
    await Promise.all(this.#relays.map(({ done }) => done));
    this.#relays.length = 0;
  }
}

/** EPIPE: the process closed its stdin. EIO: its terminal is hung up. Everything else is worth a line. */
function isEnd(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EPIPE' || code === 'EIO';
}

/** True if the promise settled in time. */
export async function within(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, limitMs, false);
  });
  const settled = promise.then(
    () => true,
    () => true,
  );
  const inTime = await Promise.race([settled, expired]);
  clearTimeout(timer);
  return inTime;
}
