/** The daemons of a node: what systemd is asked to do, or, where it does not run, what is left to the administrator. */
import { join } from 'node:path';
import { Code, describeError } from '../../proto/status.ts';
import type { Context } from '../context.ts';
import type { Machine } from '../doctor/machine.ts';
import { CliError } from '../error.ts';
import { InstallError } from './error.ts';
import { currentOf, SERVICE, SOCKET } from './layout.ts';

export type Service =
  | { kind: 'reload-units' }
  | { kind: 'enable' }
  | { kind: 'start' }
  /** Another version takes over; see snapshotter/successor.ts. */
  | { kind: 'hand-over'; pid: number }
  | { kind: 'restart-containerd' }
  | { kind: 'disable' };

/** Source: sd_booted(3). */
export const BOOTED = '/run/systemd/system';

export function systemctl(service: Service): string[] {
  switch (service.kind) {
    case 'reload-units':
      return ['systemctl', 'daemon-reload'];
    case 'enable':
      return ['systemctl', 'enable', SOCKET, SERVICE];
    case 'start':
      return ['systemctl', 'start', SERVICE];
    case 'hand-over':
      return ['systemctl', 'reload', SERVICE];
    case 'restart-containerd':
      return ['systemctl', 'restart', 'containerd.service'];
    case 'disable':
      return ['systemctl', 'disable', '--now', SOCKET, SERVICE];
  }
}

/** What somebody without systemd does instead; undefined where there is nothing to do. */
export function byHand(service: Service, prefix: string, config: string | undefined): string | undefined {
  switch (service.kind) {
    case 'reload-units':
    case 'enable':
    case 'disable':
      return undefined;
    case 'start': {
      const program = join(currentOf(prefix), 'bin/thaw-snapshotter');
      const options = config === undefined ? '' : ` --config ${config}`;
      return `setsid ${program}${options} </dev/null >>/var/log/thaw-snapshotter.log 2>&1 &`;
    }
    case 'hand-over':
      return `kill -HUP ${service.pid}`;
    case 'restart-containerd':
      return 'restart containerd; running containers go on';
  }
}

/** Longer than systemd's own time-outs for a start and a stop. */
const SYSTEMCTL_MS = 240_000;

export async function ask({ run }: Pick<Machine, 'run'>, service: Service): Promise<void> {
  const [program = '', ...args] = systemctl(service);
  const ran = await run(program, args, SYSTEMCTL_MS);
  if (ran?.code === 0) return;
  const said = ran?.stderr.trim().split('\n').at(-1) || 'no answer';
  throw new InstallError(Code.unavailable, `"${systemctl(service).join(' ')}" failed: ${said}`);
}

const ANSWER_MS = 60_000;
const AGAIN_MS = 500;

/** containerd answers and, where it is to have it, makes a snapshot with thaw. Throws with the last reason. */
export async function containerdAnswers(
  { containerd }: Pick<Machine, 'containerd'>,
  context: Pick<Context, 'signal'>,
  { withThaw }: { withThaw: boolean },
): Promise<void> {
  const until = performance.now() + ANSWER_MS;
  while (true) {
    try {
      await containerd.version();
      if (withThaw) await containerd.trySnapshotter('thaw');
      return;
    } catch (error) {
      if (context.signal.aborted) throw new CliError(Code.canceled, 'Interrupted while containerd started');
      if (performance.now() > until)
        throw new InstallError(
          Code.unavailable,
          `containerd does not work: ${describeError(error).message}`,
          {
            cause: error,
          },
        );
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}
