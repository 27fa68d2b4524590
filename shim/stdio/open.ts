/** From what a client asks for to the streams of one process. */
import { describeError } from '../../proto/status.ts';
import type { Log } from '../log.ts';
import type { Spawner } from '../process/spawn.ts';
import type { DriverCalls, DriverLimits } from './log-driver.ts';
import { PipeIo } from './pipe-io.ts';
import type { ProcessIo, StdioCalls, StdioOwner } from './process-io.ts';
import { type DriverTarget, type StdioPaths, type StreamTarget, stdioTargets } from './target.ts';

export interface IoRequest {
  paths: StdioPaths;
  owner: StdioOwner;
  /** Of the process: the exec's id for an exec. */
  id: string;
  containerId: string;
  namespace: string;
  /** Absolute path, root's alone: a console socket is made there. */
  bundle: string;
}

export interface IoDeps {
  calls: StdioCalls & DriverCalls;
  /** For log drivers. */
  spawner: Spawner;
  log: Log;
  driverLimits?: DriverLimits;
}

/**
 * Opens the client's ends; starts the log driver if there is one. Nothing is left when this rejects: InvalidArgument for a
 * scheme nobody knows, NotFound for a fifo or driver that is not there.
 */
export async function openProcessIo(request: IoRequest, deps: IoDeps): Promise<ProcessIo> {
  const { paths, owner } = request;
  const { stdin, output } = stdioTargets(paths);
  const onError = (error: unknown) =>
    deps.log.warn(
      { container: request.containerId, process: request.id, reason: describeError(error).message },
      'stdio relay failed',
    );
  if (output.kind === 'driver') return openWithDriver(stdin, output, request, deps, onError);
  const { stdout, stderr } = output;
  if (!paths.terminal) return new PipeIo({ stdin, stdout, stderr }, owner, deps.calls, onError);
  const { TerminalIo } = await import('./terminal-io.ts');
  // Somebody has to read what is written to a terminal.
  const screen = stdout.kind === 'none' ? ({ kind: 'fifo', path: '/dev/null' } as const) : stdout;
  return new TerminalIo({ stdin, stdout: screen }, request.bundle, deps.calls, onError);
}

async function openWithDriver(
  stdin: StreamTarget,
  target: DriverTarget,
  request: IoRequest,
  deps: IoDeps,
  onError: (error: unknown) => void,
): Promise<ProcessIo> {
  const [{ LogDriver }, { DriverIo }] = await Promise.all([
    import('./log-driver.ts'),
    import('./driver-io.ts'),
  ]);
  const { calls, spawner, log, driverLimits } = deps;
  const driver = await LogDriver.start(target, request, {
    calls,
    spawner,
    warn: (reason) => log.warn({ container: request.containerId, process: request.id, reason }, 'log driver'),
    ...(driverLimits ? { limits: driverLimits } : {}),
  });
  try {
    if (!request.paths.terminal) {
      const none = { kind: 'none' } as const;
      return new DriverIo(
        new PipeIo({ stdin, stdout: none, stderr: none }, request.owner, calls, onError),
        driver,
      );
    }
    const { TerminalIo } = await import('./terminal-io.ts');
    const stdout = { kind: 'descriptor', fd: driver.takeStdout() } as const;
    return new DriverIo(new TerminalIo({ stdin, stdout }, request.bundle, calls, onError), driver);
  } catch (error) {
    await driver.stop();
    throw error;
  }
}
