// Helpers of the addon's tests. Nothing else may import this file.

import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';
import { type ExitStatus, native } from './index.ts';

/** A folder that goes when the test ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'thaw-native-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function exitOf(pidfd: number): Promise<ExitStatus> {
  return new Promise((resolve, reject) => {
    native.pidfdWait(pidfd, (error, status) => (status ? resolve(status) : reject(error)));
  });
}

export interface Relay {
  id: number;
  done: Promise<bigint>;
}

export function relay(from: number, to: number): Relay {
  const { promise, resolve, reject } = Promise.withResolvers<bigint>();
  const id = native.relayStart(from, to, (error, bytes) => (error ? reject(error) : resolve(bytes ?? -1n)));
  return { id, done: promise };
}

/** Open descriptors of this process; the one that reads the folder itself is not counted. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length - 1;
}

/** Deterministic bytes (xorshift32), so that a failing seed can be run again. */
export function randomBytes(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed | 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state & 0xff;
  }
  return bytes;
}

/** Runs a module text in a Node of its own, with `native` in scope; `wrapper` is a command put in front. */
export async function runNode(source: string, wrapper: string[] = []): Promise<string> {
  const index = join(import.meta.dirname, 'index.ts');
  const program = `import { native } from ${JSON.stringify(index)};\n${source}`;
  const [command, ...args] = [...wrapper, process.execPath, '--input-type=module', '-e', program];
  const { stdout } = await promisify(execFile)(command as string, args, { timeout: 10_000 });
  return stdout;
}
