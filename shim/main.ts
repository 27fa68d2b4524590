/** The server of containerd-shim-thaw-v2, see native/launcher: the only file here that reads arguments and environment. */
import { dirname, join } from 'node:path';
import { native } from '../native/index.ts';
import { parseFlags } from './bootstrap/index.ts';
import type { CompiledParts } from './compiled-parts.ts';
import { createStartPlanner } from './restore/index.ts';
import { serve } from './serve.ts';

const DAEMON_SOCKET = '/run/thaw/thaw.sock';
/** Code that only restores from images run. */
const RESTORING = 'shim-restore-restoring.cjs';

/** What is meant for this program alone: runc would talk to systemd, a Node below it fill our code cache. */
const OWN_ENV = new Set([
  'NOTIFY_SOCKET',
  'NODE_COMPILE_CACHE',
  'NODE_COMPILE_CACHE_PORTABLE',
  'THAW_OPEN_FILES',
]);

/** runc gets our environment with our CRIU first in the PATH. */
function runcEnv(): Record<string, string> {
  const criu = join(dirname(import.meta.filename), '../criu');
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env))
    if (value !== undefined && !OWN_ENV.has(name)) env[name] = value;
  return {
    ...env,
    PATH: `${criu}:${env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}`,
  };
}

export async function main(code: Pick<CompiledParts, 'keep'>): Promise<void> {
  let hasRestored = false;
  // A trial or a cold start runs little of it.
  const keepCode = () => code.keep((file) => file === RESTORING && !hasRestored);
  const programs = join(dirname(import.meta.filename), '../bin');
  const cuda = {
    program: join(programs, 'thaw-cuda'),
    libcuda: process.env['THAW_LIBCUDA'] ?? '',
    nvml: process.env['THAW_LIBNVML'] ?? '',
  };
  try {
    await serve(parseFlags(process.argv.slice(2)), {
      calls: native,
      bundle: process.cwd(),
      env: runcEnv(),
      openFiles: Number.parseInt(process.env['THAW_OPEN_FILES'] ?? '0', 10) || 0,
      ttrpcAddress: process.env['TTRPC_ADDRESS'] ?? '',
      planner: createStartPlanner({
        daemonSocket: DAEMON_SOCKET,
        guardProgram: join(programs, 'containerd-shim-thaw-v2'),
        cuda,
        onRestored: () => {
          hasRestored = true;
        },
      }),
      // Most shims never dump: what a dump needs (zod among it) stays out of their memory.
      prepareDump: async (input) => (await import('./checkpoint/index.ts')).dumpPreparer(cuda)(input),
      keepCode,
      exit: (status) => process.exit(status),
    });
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  }
}
