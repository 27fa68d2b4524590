/**
 * One ordered queue of events for the whole shim. The first event is tried until containerd has it, so the order holds
 * also while containerd restarts; later ones wait behind it, and only their number is bounded.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Code, describeError } from '../../proto/status.ts';

export interface EventSink {
  /** Resolves when containerd has the event. InvalidArgument: it will never take this one. */
  send(request: Uint8Array): Promise<void>;
  close(): void;
}

export interface EventQueueOptions {
  sink: EventSink;
  /** Most events kept; beyond that the oldest is lost. */
  capacity?: number;
  retryMs?: { first: number; longest: number };
  onLost?: (error: unknown) => void;
}

export class EventQueue {
  readonly #options: EventQueueOptions;
  readonly #waiting: Uint8Array[] = [];
  #draining: Promise<void> | undefined;
  #closed = false;
  readonly #stop = new AbortController();

  constructor(options: EventQueueOptions) {
    this.#options = options;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** Never waits and never fails: a container's life does not depend on who listens. */
  push(request: Uint8Array): void {
    if (this.#closed) return;
    const { capacity = 4096, onLost } = this.#options;
    if (this.#waiting.length >= capacity) {
      // The first one may be on its way just now.
      this.#waiting.splice(1, 1);
      onLost?.(new Error(`More than ${capacity} events wait for containerd; the oldest is lost`));
    }
    this.#waiting.push(request);
    this.#draining ??= this.#drain().finally(() => {
      this.#draining = undefined;
    });
  }

  /** Waits until every event is delivered, at most `limitMs`, then closes. */
  async close(limitMs: number): Promise<void> {
    this.#closed = true;
    const draining = this.#draining ?? Promise.resolve();
    const limit = new AbortController();
    await Promise.race([draining, sleep(limitMs, undefined, { signal: limit.signal }).catch(() => {})]);
    limit.abort();
    this.#stop.abort();
    this.#options.sink.close();
    await draining;
  }

  async #drain(): Promise<void> {
    const { sink, onLost, retryMs = { first: 50, longest: 2000 } } = this.#options;
    let pause = retryMs.first;
    for (let first = this.#waiting[0]; first && !this.#stop.signal.aborted; first = this.#waiting[0]) {
      try {
        await sink.send(first);
        this.#waiting.shift();
        pause = retryMs.first;
      } catch (error) {
        if (describeError(error).code === Code.invalidArgument) {
          this.#waiting.shift();
          onLost?.(error);
          continue;
        }
        await sleep(pause, undefined, { signal: this.#stop.signal }).catch(() => {});
        pause = Math.min(pause * 2, retryMs.longest);
      }
    }
  }
}
