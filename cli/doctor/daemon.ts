import { join } from 'node:path';
import { describeError } from '../../proto/status.ts';
import { type Finding, failed, ok, warning } from './finding.ts';
import { type DaemonConfig, DEFAULT_DAEMON_CONFIG, type Machine } from './machine.ts';

const START = 'start it ("systemctl start thaw-snapshotter") and look at its log';

/** The daemon itself says what its file comes to; where that fails the defaults are looked at. */
export async function readDaemonConfig(
  machine: Machine,
  file: string | undefined,
): Promise<{ config: DaemonConfig; finding: Finding }> {
  const check = 'configuration of thaw-snapshotter';
  const args = ['--check', ...(file === undefined ? [] : ['--config', file])];
  const ran = await machine.run('thaw-snapshotter', args);
  if (ran?.code === 0) {
    const { root, state, address } = JSON.parse(ran.stdout) as DaemonConfig;
    return { config: { root, state, address }, finding: ok(check, `root ${root}, sockets in ${state}`) };
  }
  const found = ran
    ? ran.stderr.trim().replace(/^thaw-snapshotter: /, '')
    : 'there is no thaw-snapshotter in PATH';
  const mend = ran
    ? 'change that key; docs/operations.md has them all'
    : 'install thaw, or put its bin into PATH';
  return { config: DEFAULT_DAEMON_CONFIG, finding: failed(check, found, mend) };
}

export async function checkDaemon(machine: Machine, { state, address }: DaemonConfig): Promise<Finding[]> {
  const check = 'thaw-snapshotter';
  const socket = join(state, 'thaw.sock');
  try {
    await machine.dial(address);
    const checkpoints = await machine.checkpoints(socket);
    const broken = checkpoints.filter(({ error }) => error !== '');
    return [
      ok(check, `answers; ${checkpoints.length} checkpoints on this node`),
      ...broken.map(({ id, error }) =>
        warning('checkpoint', `${id}: ${error}`, 'see its log; it tries again by itself'),
      ),
    ];
  } catch (error) {
    return [failed(check, describeError(error).message, START)];
  }
}
