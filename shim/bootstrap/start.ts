/** `start`: makes the pod's socket, starts its server behind it, answers the address, and is gone. */
import { spawn } from 'node:child_process';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { OciSpec } from '../task/oci-spec.ts';
import { groupKey, socketPath } from './address.ts';
import type { ShimFlags } from './flags.ts';
import { listenOrShare } from './listen.ts';
import { adjustOomScore, joinCgroup } from './placement.ts';

export interface StartContext {
  /** The bundle; containerd starts shims in it. */
  cwd: string;
  /** Program and first arguments that run this shim again. */
  self: readonly [string, ...string[]];
  env: Readonly<Record<string, string | undefined>>;
  parentPid: number;
  /** All of standard input. */
  input: () => Promise<Uint8Array>;
}

/** The address that containerd is to dial. */
export async function start(flags: ShimFlags, context: StartContext): Promise<string> {
  const spec: OciSpec = JSON.parse(readFileSync(join(context.cwd, 'config.json'), 'utf8'));
  const input = await context.input();
  // containerd without options writes nothing; then nothing that decodes is loaded.
  const params =
    input.length > 0
      ? (await import('./params.ts')).parseStartInput(input, flags)
      : { options: undefined, socketDir: undefined };
  const path = socketPath(
    flags.address,
    flags.namespace,
    groupKey(spec.annotations, flags.id),
    params.socketDir,
  );
  const address = `unix://${path}`;
  const listening = await listenOrShare(path);
  try {
    writeAddress(context.cwd, address);
    if (listening.kind === 'new') {
      const pid = await spawnServer(flags, context, path, listening.fd);
      adjustOomScore(pid, context.parentPid);
      if (params.options) await joinCgroup(pid, params.options);
    }
  } catch (error) {
    if (listening.kind === 'new') rmSync(path, { force: true });
    throw error;
  }
  return address;
}

/** containerd 1.6 and 1.7 find the shim again by this file, so it is there whole or not at all. */
function writeAddress(bundle: string, address: string): void {
  const temporary = join(bundle, '.address');
  rmSync(temporary, { force: true });
  const fd = openSync(temporary, 'wx', 0o600);
  try {
    writeSync(fd, address);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, join(bundle, 'address'));
}

async function spawnServer(
  flags: ShimFlags,
  { self, env, cwd }: StartContext,
  path: string,
  listener: number,
): Promise<number> {
  const [program, ...rest] = self;
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const child = spawn(
    program,
    [
      ...rest,
      '-namespace',
      flags.namespace,
      '-id',
      flags.id,
      '-address',
      flags.address,
      '-socket',
      path,
      ...(flags.debug ? ['-debug'] : []),
      'serve',
    ],
    {
      cwd,
      env,
      detached: true,
      // containerd reads until the last holder of `start`'s output closes it, so the server inherits none of it.
      stdio: ['ignore', 'ignore', 'ignore', listener],
    },
  );
  child.once('error', reject);
  child.once('spawn', () => {
    child.unref();
    if (child.pid !== undefined) resolve(child.pid);
  });
  return promise;
}
