/** Packages of thaw as they are unpacked, and `thaw install` from them on a node that has nothing of thaw. */
import { cpSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type RunResult, run } from './index.ts';

const STAGED = '/opt/thaw/current';
/** Neither its Node nor its CRIU are there. */
export const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

/** An unpacked package of a version, which is told by one file. */
export function unpack(dir: string, version: string): string {
  const tree = join(dir, `thaw-${version}`);
  cpSync(readlinkSync(STAGED).startsWith('/') ? STAGED : join('/opt/thaw', readlinkSync(STAGED)), tree, {
    recursive: true,
    verbatimSymlinks: true,
  });
  writeFileSync(join(tree, 'VERSION'), `${version}\nbuild of ${version}\n`);
  return tree;
}

export interface Places {
  prefix: string;
  binDir: string;
  unitDir: string;
  containerdConfig: string;
}

export function placesIn(dir: string, containerdConfig: string): Places {
  return {
    prefix: join(dir, 'opt'),
    binDir: join(dir, 'bin'),
    unitDir: join(dir, 'units'),
    containerdConfig,
  };
}

export function flags(places: Places): string[] {
  return [
    ...['--prefix', places.prefix, '--bin-dir', places.binDir, '--unit-dir', places.unitDir],
    ...['--containerd-config', places.containerdConfig],
  ];
}

/** A command of the package in `tree`, with nothing of this checkout in its environment. */
export function thaw(
  tree: string,
  args: readonly string[],
  { path = SYSTEM_PATH, env = {} }: { path?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<RunResult> {
  const variables = Object.entries({ PATH: path, HOME: '/root', ...env }).map(
    ([name, value]) => `${name}=${value}`,
  );
  return run('env', ['-i', ...variables, join(tree, 'bin/thaw'), ...args], {
    allowFailure: true,
    timeoutMs: 120_000,
  });
}

/** Whether containerd can start with it. */
export const readable = async (file: string) =>
  (await run('containerd', ['--config', file, 'config', 'dump'], { allowFailure: true })).code === 0;
