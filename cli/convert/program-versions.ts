import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Versions } from '../../checkpoint/host-facts.ts';
import type { Context } from '../context.ts';

const RUN_MS = 10_000;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Of this node's CRIU, which thaw brings along, and runc; "0" where there is none, which every node is newer than. */
export async function programVersions({ env, signal }: Pick<Context, 'env' | 'signal'>): Promise<Versions> {
  const search = `${join(dirname(import.meta.dirname), 'criu')}:${env['PATH'] ?? PATH}`;
  const ask = async (program: string, pattern: RegExp) => {
    const options = {
      env: { ...env, PATH: search },
      timeout: RUN_MS,
      killSignal: 'SIGKILL' as const,
      signal,
    };
    const said = await promisify(execFile)(program, ['--version'], options).catch(() => undefined);
    return pattern.exec(said?.stdout ?? '')?.[1] ?? '0';
  };
  const [criu, runc] = await Promise.all([
    ask('criu', /^Version:\s*(\S+)/m),
    ask('runc', /^runc version (\S+)/m),
  ]);
  return { criu, runc };
}
