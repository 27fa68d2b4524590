/** Streams of a process whose output goes to a log driver; input, or a terminal, is as without one. */
import type { RuncStdio } from '../task/start-plan.ts';
import type { LogDriver } from './log-driver.ts';
import type { ProcessIo } from './process-io.ts';

export class DriverIo implements ProcessIo {
  readonly childStdio: RuncStdio;
  readonly #inner: ProcessIo;
  readonly #driver: LogDriver;

  /** Owns both. */
  constructor(inner: ProcessIo, driver: LogDriver) {
    this.#inner = inner;
    this.#driver = driver;
    this.childStdio = inner.consoleSocket ? inner.childStdio : [inner.childStdio[0], ...driver.writers];
  }

  get consoleSocket(): string | undefined {
    return this.#inner.consoleSocket;
  }

  /** A driver is started once for a process; a console socket serves one try. */
  get reusable(): boolean {
    return this.consoleSocket === undefined;
  }

  started(): Promise<void> {
    this.#driver.closeWriters();
    return this.#inner.started();
  }

  closeStdin(): void {
    this.#inner.closeStdin();
  }

  resize(columns: number, rows: number): void {
    this.#inner.resize(columns, rows);
  }

  exited(): void {
    this.#inner.exited();
  }

  async finish(limitMs: number): Promise<void> {
    await this.#inner.finish(limitMs);
    await this.#driver.stop();
  }

  async close(): Promise<void> {
    await this.#inner.close();
    await this.#driver.stop();
  }
}
