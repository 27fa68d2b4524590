/**
 * Keeps a server that lives long as small as it began. V8 is made for programs that are busy: it leaves garbage alone until
 * there is much of it, and compiles what runs often, for which a server that waits for others all day has no use. After
 * 1,000 containers one had 27 MB of private memory instead of 14.
 */
import type { Addon } from '../native/index.ts';

export interface Engine {
  collectGarbage(): void;
  /** From now on code is interpreted. */
  stopOptimizing(): void;
}

export interface FootprintDeps {
  calls: Pick<Addon, 'trimMemory'>;
  /** Resident bytes. */
  resident(): number;
  /** Most servers end before they need it. */
  engine(): Promise<Engine>;
  /** Called while V8 still has all code that was compiled, and has the flags of a start. */
  keepCode(): void;
  onError(error: unknown): void;
}

/**
 * Calls of some three containers. Most of what a pod needs is loaded by then, which matters because V8 takes no cached code
 * that was made under other flags.
 */
export const CALLS_UNTIL_STEADY = 20;
/** So long without a call that seldom somebody waits for an answer meanwhile. */
export const IDLE_MS = 2_000;
/** Less is not worth a collection, which takes some 20 ms of processor time. */
export const WORTHWHILE_BYTES = 1 << 20;

export class Footprint {
  readonly #deps: FootprintDeps;
  #count = 0;
  #idle: NodeJS.Timeout | undefined;
  /** Resident bytes after the last collection. */
  #least = 0;
  #isSettled = false;

  constructor(deps: FootprintDeps) {
    this.#deps = deps;
  }

  /** A call was answered. */
  called(): void {
    const { onError } = this.#deps;
    this.#count += 1;
    if (this.#count === CALLS_UNTIL_STEADY) this.#settle().catch(onError);
    if (this.#idle) this.#idle.refresh();
    else this.#idle = setTimeout(() => void this.#tidy().catch(onError), IDLE_MS).unref();
  }

  /** The process ends after this. */
  ending(): void {
    this.#keepCode();
  }

  #keepCode(): void {
    if (this.#count > 0 && !this.#isSettled) this.#deps.keepCode();
  }

  async #settle(): Promise<void> {
    const v8 = await this.#deps.engine();
    this.#keepCode();
    this.#isSettled = true;
    v8.stopOptimizing();
  }

  async #tidy(): Promise<void> {
    const { calls, engine, resident } = this.#deps;
    if (resident() < this.#least + WORTHWHILE_BYTES) return;
    const v8 = await engine();
    this.#keepCode();
    v8.collectGarbage();
    calls.trimMemory();
    this.#least = resident();
  }
}
