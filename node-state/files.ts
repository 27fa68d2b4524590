/**
 * Small JSON files that shims leave on a node and the CLI reads: how starts went, and which restores failed. Root's alone,
 * each written whole under another name first, and bounded: who writes one more removes the oldest.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const MAX_BYTES = 64 << 10;

/**
 * Not asynchronous: a shim whose start is refused may end right after it. A kilobyte is written in less than a millisecond,
 * and not flushed: what a power failure takes is a reason, or one more try.
 */
export function writeState(dir: string, name: string, value: unknown): void {
  const text = JSON.stringify(value);
  const fresh = join(dir, `.${process.pid}-${name}`);
  try {
    writeFileSync(fresh, text, { mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    writeFileSync(fresh, text, { mode: 0o600 });
  }
  renameSync(fresh, join(dir, name));
}

/** Undefined where there is no such file, or none that can be read: it says nothing then. */
export function readState(dir: string, name: string): unknown {
  try {
    const text = readFileSync(join(dir, name), 'utf8');
    return text.length > MAX_BYTES ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Names in order; what is being written is left out. */
export function listState(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((name) => name.endsWith('.json') && !name.startsWith('.'))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return [];
  }
}

export function removeState(dir: string, name: string): void {
  rmSync(join(dir, name), { force: true });
}

/**
 * Removes the oldest until `keep` are left, and what writers that were killed left behind. `age` sorts: by name if not given.
 */
export function pruneState(dir: string, keep: number, age: (name: string) => string = (name) => name): void {
  const names = listState(dir);
  if (names.length > keep) {
    const oldestFirst = names.map((name) => ({ name, at: age(name) })).sort((a, b) => (a.at < b.at ? -1 : 1));
    for (const { name } of oldestFirst.slice(0, -keep)) removeState(dir, name);
  }
  for (const name of readdirSync(dir)) {
    const [, pid] = /^\.(\d+)-/.exec(name) ?? [];
    if (pid !== undefined && !isAlive(Number(pid))) removeState(dir, name);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
