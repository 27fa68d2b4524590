/** What daemons, and the shims whose lines containerd copies, wrote during a test: printed where it fails. */
import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs';

/** Of each log; those that containerd wrote for its developers go first. */
const MOST_LINES = 200;
const MOST_BYTES = 4 << 20;
const LONGEST_LINE = 2_000;

export class FailedLogs {
  /** Where the running test's part begins. */
  readonly #begins = new Map<string, number>();
  /** That part of logs that may be removed before the test fails. */
  readonly #kept = new Map<string, string>();

  /** A test begins. */
  begin(): void {
    this.#kept.clear();
    for (const path of this.#begins.keys()) {
      if (existsSync(path)) this.#begins.set(path, statSync(path).size);
      else this.#begins.delete(path);
    }
  }

  /** A daemon is about to write there. */
  follow(path: string): void {
    if (!this.#begins.has(path)) this.#begins.set(path, existsSync(path) ? statSync(path).size : 0);
  }

  /** The daemon has ended, so its log may be removed. */
  keep(path: string): void {
    if (existsSync(path)) this.#kept.set(path, this.#read(path));
  }

  show(): string {
    return [...this.#begins.keys()]
      .map((path) => {
        const text = existsSync(path) ? this.#read(path) : (this.#kept.get(path) ?? '');
        return `--- ${path}\n${lastLines(text)}`;
      })
      .join('\n');
  }

  #read(path: string): string {
    const fd = openSync(path, 'r');
    try {
      const { size } = fstatSync(fd);
      const from = Math.max(this.#begins.get(path) ?? 0, size - MOST_BYTES);
      const bytes = Buffer.alloc(Math.max(0, size - from));
      return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, from));
    } finally {
      closeSync(fd);
    }
  }
}

/** A shim's lines are JSON and explain what it did; containerd's debug lines tell of each call. */
function lastLines(text: string): string {
  const lines = text.split('\n').filter((line) => line !== '');
  const ofUse = lines.filter((line) => line.startsWith('{') || !/\blevel=debug\b/.test(line));
  return (lines.length > MOST_LINES ? ofUse.slice(-MOST_LINES) : lines)
    .map((line) => line.slice(0, LONGEST_LINE))
    .join('\n');
}

export const failedLogs = new FailedLogs();
