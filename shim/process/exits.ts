/**
 * Exits of container processes. The shim is their subreaper, so an ended process stays a zombie, and its pid cannot be
 * used again, until it is reaped here: there is no exit to miss, however early it comes.
 */
import type { Addon, ExitStatus } from '../../native/index.ts';

export type ExitCalls = Pick<Addon, 'pidfdOpen' | 'pidfdWait' | 'children' | 'reapZombie' | 'realtime'>;

export interface Exit {
  /** Exit code, or 128 + signal. */
  status: number;
  /** Nanoseconds since 1970. */
  at: bigint;
}

/** Status of a process that ended without anybody being told how (255, as containerd writes it). */
const UNKNOWN_STATUS = 255;

export interface ExitWatcherOptions {
  calls: ExitCalls;
  /** Children that are libuv's to reap. */
  ownedElsewhere: (pid: number) => boolean;
  onError: (error: unknown) => void;
}

export class ExitWatcher {
  readonly #options: ExitWatcherOptions;
  readonly #watched = new Set<number>();
  /** Zombies seen in the sweep before this one. */
  #suspects = new Set<number>();
  #sweep: NodeJS.Timeout | undefined;
  #holds = 0;

  constructor(options: ExitWatcherOptions) {
    this.#options = options;
  }

  /**
   * Runs something that makes a process and then watches it. Meanwhile no zombie is taken for a stranger: the process may
   * have ended before anybody could know its pid.
   */
  async holding<Result>(work: () => Promise<Result>): Promise<Result> {
    this.#holds += 1;
    try {
      return await work();
    } finally {
      this.#holds -= 1;
      this.childEnded();
    }
  }

  /** Resolves when the process ended. */
  watch(pid: number): Promise<Exit> {
    const { calls, onError } = this.#options;
    this.#watched.add(pid);
    return new Promise((resolve) => {
      const done = (error: Error | null, exit?: ExitStatus) => {
        this.#watched.delete(pid);
        if (error) onError(error);
        resolve({ status: exit?.code ?? UNKNOWN_STATUS, at: calls.realtime() });
      };
      try {
        calls.pidfdWait(calls.pidfdOpen(pid), done);
      } catch (error) {
        // ESRCH: it was no child of ours and is gone.
        done(error as Error);
      }
    });
  }

  /**
   * On SIGCHLD: reaps processes that nobody waits for (what containers and runc leave behind). A zombie must be seen twice,
   * an interval apart, so that whoever does wait for it comes first.
   */
  childEnded(intervalMs = 500): void {
    this.#sweep ??= setTimeout(() => {
      this.#sweep = undefined;
      if (this.#reapStrangers()) this.childEnded(intervalMs);
    }, intervalMs).unref();
  }

  /** True if another look is needed. */
  #reapStrangers(): boolean {
    const { calls, ownedElsewhere, onError } = this.#options;
    if (this.#holds > 0) {
      this.#suspects.clear();
      return true;
    }
    const strangers = calls.children().filter((pid) => !this.#watched.has(pid) && !ownedElsewhere(pid));
    const before = this.#suspects;
    this.#suspects = new Set(strangers);
    for (const pid of strangers) {
      if (!before.has(pid)) continue;
      try {
        if (calls.reapZombie(pid)) this.#suspects.delete(pid);
      } catch (error) {
        onError(error);
      }
    }
    return strangers.some((pid) => !before.has(pid));
  }
}
