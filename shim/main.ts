/** containerd-shim-thaw-v2: the only file here that reads arguments and environment. Loads what an action needs, no more. */
import { writeSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { dirname, join } from 'node:path';
import { parseFlags, requireContainer, type ShimFlags } from './bootstrap/index.ts';

const program = import.meta.filename;
const VERSION = process.env.THAW_VERSION ?? 'development';
const DAEMON_SOCKET = '/run/thaw/thaw.sock';
/** After the first container's start. */
const CODE_CACHE_MS = 3_000;

/** What is meant for this program alone: runc would talk to systemd, a Node below it fill our code cache. */
const OWN_ENV = new Set(['NOTIFY_SOCKET', 'NODE_COMPILE_CACHE', 'NODE_COMPILE_CACHE_PORTABLE']);

/** runc gets our environment with our CRIU first in the PATH. */
function runcEnv(): Record<string, string> {
  const criu = join(dirname(program), '../criu');
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env))
    if (value !== undefined && !OWN_ENV.has(name)) env[name] = value;
  return {
    ...env,
    PATH: `${criu}:${env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}`,
  };
}

async function readInput(): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

/** The whole answer, before the process ends. */
function print(answer: string | Uint8Array): void {
  const bytes = Buffer.from(answer as string);
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
}

async function run(flags: ShimFlags): Promise<void> {
  switch (flags.action) {
    case 'version':
      print(`containerd-shim-thaw-v2:\n  Version:  ${VERSION}\n`);
      return;
    case 'start': {
      requireContainer(flags);
      const { start } = await import('./bootstrap/start.ts');
      const { env, ppid } = process;
      const self = [process.execPath, ...process.execArgv, program] as const;
      print(await start(flags, { cwd: process.cwd(), self, env, parentPid: ppid, input: readInput }));
      return;
    }
    case 'delete': {
      requireContainer(flags);
      const [{ remove }, { native }] = await Promise.all([
        import('./bootstrap/remove.ts'),
        import('../native/index.ts'),
      ]);
      // With pod grouping containerd may run this in another container's bundle.
      const bundle = flags.bundle || join(dirname(process.cwd()), flags.id);
      print(
        await remove(flags, {
          bundle,
          env: runcEnv(),
          calls: native,
          now: () => native.realtime(),
          warn: (line) => process.stderr.write(`${line}\n`),
        }),
      );
      return;
    }
    case 'info': {
      const [{ runtimeInfo }, { Runc }, { ChildSpawner }, { native }] = await Promise.all([
        import('./bootstrap/info.ts'),
        import('./runc/runc.ts'),
        import('./process/spawn.ts'),
        import('../native/index.ts'),
      ]);
      const runc = new Runc(
        {
          binary: 'runc',
          root: '/run/containerd/runc',
          systemdCgroup: false,
          env: runcEnv(),
        },
        new ChildSpawner(native),
      );
      print(await runtimeInfo(runc, VERSION));
      return;
    }
    case 'serve': {
      requireContainer(flags);
      const [{ serve }, { native }, { createStartPlanner }] = await Promise.all([
        import('./serve.ts'),
        import('../native/index.ts'),
        import('./restore/index.ts'),
      ]);
      await serve(flags, {
        calls: native,
        bundle: process.cwd(),
        env: runcEnv(),
        ttrpcAddress: process.env['TTRPC_ADDRESS'] ?? '',
        planner: createStartPlanner({ daemonSocket: DAEMON_SOCKET }),
        // Most shims never dump: what a dump needs (zod among it) stays out of their memory.
        prepareDump: async (input) => (await import('./checkpoint/index.ts')).prepareDump(input),
        exit: (status) => process.exit(status),
      });
      // Node writes its code cache at a normal end, which a shim seldom has; the next one shall start faster.
      setTimeout(() => flushCompileCache(), CODE_CACHE_MS).unref();
      return;
    }
  }
}

async function main(): Promise<void> {
  try {
    const flags = parseFlags(process.argv.slice(2));
    await run(flags);
    // What `start` leaves open (its copy of the listener) must not keep it alive.
    if (flags.action !== 'serve') process.exit(0);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  }
}

void main();
