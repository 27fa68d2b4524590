// Helpers of the launcher's tests. Nothing else may import this file.

import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { containerd } from '../../proto/gen/shim.js';
import { temporaryFolder } from '../testing.ts';

const built = join(import.meta.dirname, '../../build/containerd-shim-thaw-v2');

export interface Tree {
  tree: string;
  launcher: string;
}

/** An install tree whose Node is a shell script. */
export function install(node: string): Tree {
  const tree = join(temporaryFolder(), 'opt/thaw/1.2.3');
  mkdirSync(join(tree, 'bin'), { recursive: true });
  mkdirSync(join(tree, 'lib'));
  const launcher = join(tree, 'bin/containerd-shim-thaw-v2');
  copyFileSync(built, launcher);
  writeProgram(join(tree, 'bin/node'), node);
  writeFileSync(join(tree, 'lib/shim.cjs'), '');
  return { tree, launcher };
}

export function writeProgram(path: string, script: string): void {
  // A new file: one that is being run could not be written to.
  rmSync(path, { force: true });
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

export interface Ran {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface Invocation {
  cwd?: string;
  input?: string | Uint8Array;
  env?: Record<string, string>;
}

export function run(command: string, args: string[], { cwd, input = '', env }: Invocation = {}): Ran {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    input,
    timeout: 40_000,
    env: { PATH: '/usr/bin:/bin', ...env },
    ...(cwd ? { cwd } : {}),
  });
  return { status, stdout, stderr };
}

/** The same beside this process. */
export function runAsync(
  command: string,
  args: string[],
  { cwd, input = '' }: Invocation = {},
): Promise<Ran> {
  const child = spawn(command, args, { env: { PATH: '/usr/bin:/bin' }, ...(cwd ? { cwd } : {}) });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  // One that reads no input may be gone before it is written.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, stdout, stderr })));
}

/** A bundle with a config.json, and a folder for sockets. */
export function makeBundle(config: unknown = {}): { bundle: string; sockets: string } {
  const folder = temporaryFolder();
  const bundle = join(folder, 'ns/c1');
  mkdirSync(bundle, { recursive: true });
  const text = typeof config === 'string' || Buffer.isBuffer(config) ? config : JSON.stringify(config);
  writeFileSync(join(bundle, 'config.json'), text);
  return { bundle, sockets: join(folder, 's') };
}

/** What containerd 2.3 and later writes to `start`. */
export function bootstrapParams(
  socketDir: string,
  extra: containerd.runtime.bootstrap.v1.IBootstrapParams = {},
): Uint8Array {
  return containerd.runtime.bootstrap.v1.BootstrapParams.encode({
    instanceId: 'c1',
    namespace: 'ns',
    socketDir,
    ...extra,
  }).finish();
}

export const startArgs = ['-namespace', 'ns', '-address', '/run/c.sock', '-id', 'c1', 'start'];
