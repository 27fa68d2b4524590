/** The `thaw` program. Loads what a command needs only when it runs. */
import pkg from '../package.json' with { type: 'json' };
import type { Handlers } from './commands/handlers.ts';
import { type Context, createContext } from './context.ts';
import { ExitStatus, errorLines, exitStatusOf } from './error.ts';
import { createProgram, exitStatusOfCommander } from './program.ts';

function handlersOf(context: Context): Handlers {
  return {
    build: async (options) => (await import('./build/run.ts')).runBuild(options, context),
    checkpoint: async (options) => (await import('./checkpoint/run.ts')).runCheckpoint(options, context),
    convert: async (options) => (await import('./convert/run.ts')).runConvert(options, context),
    inspect: async (options) => (await import('./inspect/run.ts')).runInspect(options, context),
    fetch: async (options) => (await import('./fetch/run.ts')).runFetch(options, context),
    status: async (options) =>
      options.watch
        ? (await import('./node/watch.ts')).watchStatus(options, context)
        : (await import('./node/status.ts')).runStatus(options, context),
    guard: async (options) => (await import('./checkpoint/run-guard.ts')).runGuard(options),
    prefetch: async (options) => (await import('./prefetch/run.ts')).runPrefetch(options, context),
    doctor: async (options) => (await import('./doctor/run.ts')).runDoctor(options, context),
    convertLazy: async (options) => (await import('./convert-lazy/run.ts')).runConvertLazy(options, context),
    record: async (options) => (await import('./record/run.ts')).runRecord(options, context),
    install: async (options) => (await import('./install/install.ts')).runInstall(options, context),
    uninstall: async (options) => (await import('./install/uninstall.ts')).runUninstall(options, context),
    daemonset: async (options) => (await import('./install/daemonset.ts')).runDaemonSet(options, context),
    evict: async (options) => (await import('./node/evict.ts')).runEvict(options, context),
    why: async (options) => (await import('./why/run.ts')).runWhy(options, context),
    retry: async (options) => (await import('./why/retry.ts')).runRetry(options, context),
  };
}

/** The first signal asks the command to stop and undo; later ones change nothing, as undoing must not be cut short. */
function interruption(): AbortController {
  const controller = new AbortController();
  const stop = () => {
    if (!controller.signal.aborted) process.stderr.write('\nthaw: interrupted; cleaning up\n');
    controller.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  return controller;
}

async function main(argv: string[]): Promise<number> {
  const { signal } = interruption();
  const context = createContext(process, signal, process.env);
  const program = createProgram({
    version: pkg.version,
    handlers: handlersOf(context),
    write: { out: (text) => process.stdout.write(text), err: (text) => process.stderr.write(text) },
  });
  try {
    await program.parseAsync(argv);
    return ExitStatus.ok;
  } catch (error) {
    const status = exitStatusOfCommander(error);
    if (status !== undefined) return status;
    context.progress.abandon();
    for (const line of errorLines(error)) process.stderr.write(`${line}\n`);
    return exitStatusOf(error);
  }
}

// A reader that went away (`thaw status | head -1`) is no failure of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? ExitStatus.ok : ExitStatus.failed);
});
process.exitCode = await main(process.argv);
