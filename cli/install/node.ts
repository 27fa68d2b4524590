/** What an installation, and its end, look at before they plan anything. */
import { open, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { native } from '../../native/index.ts';
import { INSTALL_LOCK } from '../../node-state/install-names.ts';
import type { PlaceOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { type DaemonConfig, DEFAULT_DAEMON_CONFIG, type Machine } from '../doctor/machine.ts';
import { nodeMachine } from '../doctor/node-machine.ts';
import { usageError } from '../error.ts';
import { refused } from './error.ts';
import { followed } from './files.ts';
import type { Layout } from './layout.ts';
import { type InstallRecord, readRecord } from './record.ts';
import { BOOTED } from './services.ts';
import { type Running, runningIn, runningProgram } from './versions.ts';

export interface Node {
  layout: Layout;
  /** containerd's main file, with links followed. */
  containerdConfig: string;
  machine: Machine & { close(): void };
  record: InstallRecord;
  /** Programs of any version, but for this command. */
  running: readonly Running[];
  /** When the oldest containerd here was started; undefined if none runs. */
  containerdStarted: number | undefined;
  /** Whether systemd can be asked. */
  hasSystemd: boolean;
}

/** The folder that this program lies in. */
export const ownTree = () => dirname(import.meta.dirname);

/** For systemd units, TOML and shell lines alike. */
const PLAIN_PATH = /^(\/[\w.+-]+)+$/;

export async function lookAround(options: PlaceOptions, context: Context): Promise<Node> {
  const { prefix, binDir, unitDir, containerdConfig, config } = options;
  for (const path of [prefix, binDir, unitDir, containerdConfig, config])
    if (path !== undefined && (!PLAIN_PATH.test(path) || /\/\.\.?(\/|$)/.test(path)))
      throw usageError(`"${path}" must be an absolute path of letters, digits and "._+-/"`);
  const machine = nodeMachine({ ...options, json: false }, context);
  const containerds = await runningProgram('containerd');
  return {
    layout: { prefix, binDir, unitDir },
    containerdConfig: await followed(containerdConfig),
    machine,
    record: await readRecord(prefix),
    running: await runningIn(prefix),
    containerdStarted:
      containerds.length === 0 ? undefined : Math.min(...containerds.map(({ started }) => started)),
    hasSystemd: await machine.exists(BOOTED),
  };
}

/** What thaw-snapshotter makes of its configuration, asked in the folder that is to be installed. */
export async function daemonConfig(
  machine: Machine,
  tree: string,
  config: string | undefined,
): Promise<DaemonConfig> {
  const program = join(tree, 'bin/thaw-snapshotter');
  const ran = await machine.run(program, ['--check', ...(config === undefined ? [] : ['--config', config])]);
  if (ran?.code !== 0)
    throw refused(
      `thaw-snapshotter could not start: ${ran?.stderr.trim() || `${program} does not run here`}`,
    );
  const { root, state, address } = JSON.parse(ran.stdout) as DaemonConfig;
  return { root, state, address };
}

/** The same where the programs may be gone already. */
export async function knownDaemonConfig(
  machine: Machine,
  tree: string,
  config: string | undefined,
): Promise<DaemonConfig> {
  return daemonConfig(machine, tree, config).catch(() => DEFAULT_DAEMON_CONFIG);
}

/** Whether containerd has yet to read a file that was changed. */
export function needsRestart({ record, containerdStarted }: Node): boolean {
  return (
    record.containerdChanged > 0 &&
    containerdStarted !== undefined &&
    containerdStarted < record.containerdChanged
  );
}

/** One at a time: the function that it answers lets the next one in. */
export async function lockPrefix(prefix: string): Promise<() => Promise<void>> {
  const handle = await open(join(prefix, INSTALL_LOCK), 'a', 0o600);
  if (!native.tryLock(handle.fd, true)) {
    await handle.close();
    throw refused(`Another "thaw install" or "thaw uninstall" runs on ${prefix}: wait for it`);
  }
  return () => handle.close();
}

/** Mounts below a directory. Source: proc(5), mountinfo: the fifth field, with octal escapes. */
export async function mountsBelow(directory: string): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return lines
    .map((line) =>
      (line.split(' ')[4] ?? '').replaceAll(/\\([0-7]{3})/g, (_, octal) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    )
    .filter((point) => point.startsWith(`${directory}/`));
}
