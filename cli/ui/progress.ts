import { renderBar, renderLine, type StepView } from './bar.ts';
import { formatMs } from './format.ts';

/** Where progress is shown: standard error, so that standard output stays what was asked for. */
export interface ProgressTarget {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
}

export interface Step {
  /** Units done so far, bytes unless the label says otherwise. */
  update(done: number, total?: number): void;
  add(done: number): void;
  /** Ends the step; the detail is shown beside its time. */
  finish(detail?: string): void;
}

export interface StepTime {
  label: string;
  ms: number;
}

const TTY_INTERVAL_MS = 100;
const LINE_INTERVAL_MS = 1000;

/**
 * Steps of long work, one at a time: a bar on a terminal, otherwise a line when a step ends and about one a second
 * while it lasts.
 */
export class Progress {
  readonly times: StepTime[] = [];
  readonly #target: ProgressTarget;
  readonly #now: () => number;
  #running: { view: StepView; started: number; shown: number; timer: NodeJS.Timeout } | undefined;

  constructor(target: ProgressTarget, now: () => number = () => performance.now()) {
    this.#target = target;
    this.#now = now;
  }

  step(label: string, total?: number): Step {
    this.abandon();
    const started = this.#now();
    const view: StepView = { label, done: 0, total, elapsedMs: 0 };
    const every = this.#target.isTTY ? TTY_INTERVAL_MS : LINE_INTERVAL_MS;
    const timer = setInterval(() => this.#show(), every);
    timer.unref();
    const running = { view, started, shown: started, timer };
    this.#running = running;
    if (this.#target.isTTY) this.#draw();
    const ifRunning = (change: () => void) => {
      if (this.#running !== running) return;
      change();
      this.#show();
    };
    return {
      update: (done, newTotal) =>
        ifRunning(() => {
          view.done = done;
          if (newTotal !== undefined) view.total = newTotal;
        }),
      add: (done) =>
        ifRunning(() => {
          view.done += done;
        }),
      finish: (detail) => {
        if (this.#running !== running) return;
        this.abandon();
        const ms = this.#now() - started;
        this.times.push({ label, ms });
        this.#target.write(`${label}${detail === undefined ? '' : `: ${detail}`} (${formatMs(ms)})\n`);
      },
    };
  }

  /** A line of its own between or during steps. */
  note(text: string): void {
    this.#clear();
    this.#target.write(`${text}\n`);
  }

  /** Stops the running step without calling it done; for failures. */
  abandon(): void {
    if (!this.#running) return;
    clearInterval(this.#running.timer);
    this.#clear();
    this.#running = undefined;
  }

  #show(): void {
    const running = this.#running;
    if (!running) return;
    const now = this.#now();
    if (now - running.shown < (this.#target.isTTY ? TTY_INTERVAL_MS : LINE_INTERVAL_MS)) return;
    running.shown = now;
    running.view.elapsedMs = now - running.started;
    this.#draw();
  }

  #draw(): void {
    if (!this.#running) return;
    const { view } = this.#running;
    if (this.#target.isTTY) this.#target.write(`\r\u001b[K${renderBar(view, this.#target.columns ?? 80)}`);
    else this.#target.write(`${renderLine(view)}\n`);
  }

  #clear(): void {
    if (this.#target.isTTY && this.#running) this.#target.write('\r\u001b[K');
  }
}
