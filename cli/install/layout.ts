/** Where the parts of an installation lie, beside the folder of the version itself. Pure. */
import { join } from 'node:path';
import { CURRENT } from '../../node-state/install-names.ts';
import type { DaemonConfig } from '../doctor/machine.ts';
import type { FileState } from './files.ts';

export interface Layout {
  /** Has a folder for each version, and `current`. */
  prefix: string;
  /** In containerd's PATH. */
  binDir: string;
  unitDir: string;
}

const PROGRAMS = ['containerd-shim-thaw-v2', 'thaw', 'thaw-snapshotter'] as const;
export const SERVICE = 'thaw-snapshotter.service';
export const SOCKET = 'thaw-snapshotter.socket';

export const currentOf = (prefix: string) => join(prefix, CURRENT);
export const shimOf = (prefix: string) => join(prefix, 'current/bin/containerd-shim-thaw-v2');

export interface Wanted {
  path: string;
  state: FileState;
}

/** Links to what is current, so that no upgrade changes them. */
export function links({ prefix, binDir }: Layout): Wanted[] {
  return PROGRAMS.map((name) => ({
    path: join(binDir, name),
    state: { kind: 'link', target: join(currentOf(prefix), 'bin', name) },
  }));
}

/** The units of deploy/systemd with this node's own paths. */
export function units(
  { prefix, unitDir }: Layout,
  daemon: DaemonConfig,
  config: string | undefined,
  unit: (name: string) => string,
): Wanted[] {
  const adapt = (text: string) =>
    text
      .replaceAll('/opt/thaw/current', currentOf(prefix))
      .replace(/^(ExecStart=.*)$/m, config === undefined ? '$1' : `$1 --config ${config}`)
      .replace('ListenStream=/run/thaw/snapshotter.sock', `ListenStream=${daemon.address}`)
      .replace('ListenStream=/run/thaw/thaw.sock', `ListenStream=${join(daemon.state, 'thaw.sock')}`)
      .replace('RequiresMountsFor=/var/lib/thaw', `RequiresMountsFor=${daemon.root}`);
  return [SOCKET, SERVICE].map((name) => ({
    path: join(unitDir, name),
    state: { kind: 'file', mode: 0o644, text: adapt(unit(name)) },
  }));
}
