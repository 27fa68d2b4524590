/** Versions of the programs that a dump or a restore runs. */

import type { Versions } from '../checkpoint/host-facts.ts';
import { Code } from '../proto/status.ts';
import { ShimError } from './error.ts';
import type { Runc } from './runc/runc.ts';

const DEADLINE_MS = 5_000;

/** FAILED_PRECONDITION if CRIU or runc cannot be run. */
export async function nodeVersions(runc: Runc): Promise<Versions> {
  const [criu, runcVersion] = await Promise.all([criuVersion(runc), runc.version()]);
  return { criu, runc: runcVersion };
}

async function criuVersion(runc: Runc): Promise<string> {
  const { env } = runc.config;
  const result = await runc.spawner
    .run('criu', ['--version'], { env, deadlineMs: DEADLINE_MS, captureStdout: true })
    .catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') throw cause;
      throw new ShimError(Code.failedPrecondition, 'Cannot find CRIU on this node; install thaw anew', {
        cause,
      });
    });
  const version = parseCriuVersion(result.stdout);
  if (!version) {
    throw new ShimError(Code.failedPrecondition, 'CRIU on this node does not run; try "criu --version"', {
      context: { exitCode: result.code, signal: result.signal },
    });
  }
  return version;
}

export function parseCriuVersion(output: string): string | undefined {
  return /^Version:\s*(\S+)/m.exec(output)?.[1];
}
