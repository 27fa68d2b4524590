import { mkdirSync, mkdtempSync } from 'node:fs';

/** A new folder on the node's real disk, where overlays, flock and fdatasync behave as on a server. */
export function privateDir(name: string): string {
  mkdirSync('/state/test', { recursive: true, mode: 0o700 });
  return mkdtempSync(`/state/test/${name}-`);
}

/** A new folder on the node's tmpfs, short enough for unix sockets. */
export function runDir(name: string): string {
  mkdirSync('/run/test', { recursive: true, mode: 0o700 });
  return mkdtempSync(`/run/test/${name}-`);
}
