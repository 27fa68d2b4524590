/**
 * Command lines of runc. Pure; the flags are those that containerd's own shim passes (go-runc), because they are the
 * ones that every runc release keeps working.
 */

export interface RuncGlobals {
  /** Directory of runc's state, one per containerd namespace. */
  root: string;
  /** File that runc appends JSON log lines to; without one it says nothing. */
  log?: string | undefined;
  systemdCgroup: boolean;
  /** Debug lines in the log file. */
  debug?: boolean;
}

export interface CreateOptions {
  id: string;
  bundle: string;
  pidFile: string;
  /** Socket that the terminal's master is sent to. */
  consoleSocket?: string | undefined;
  noPivot?: boolean;
  noNewKeyring?: boolean;
}

export interface ExecOptions {
  id: string;
  /** File with the JSON of an OCI `process`. */
  process: string;
  pidFile: string;
  consoleSocket?: string | undefined;
}

export interface RunOptions {
  id: string;
  /** File with the JSON of an OCI `process`. */
  process: string;
}

export interface CheckpointOptions {
  id: string;
  imagePath: string;
  workPath: string;
  parentPath?: string;
  leaveRunning: boolean;
  tcpEstablished?: boolean;
  externalUnixSockets?: boolean;
  shellJob?: boolean;
  fileLocks?: boolean;
  emptyNamespaces?: readonly string[];
  /** Further flags, before the id. */
  extra?: readonly string[];
}

export interface RestoreOptions {
  id: string;
  bundle: string;
  imagePath: string;
  workPath: string;
  pidFile: string;
  consoleSocket?: string | undefined;
  noPivot?: boolean;
  tcpEstablished?: boolean;
  externalUnixSockets?: boolean;
  fileLocks?: boolean;
  /** Further flags, before the id (for example --lazy-pages). */
  extra?: readonly string[];
}

export function globalArgs(globals: RuncGlobals): string[] {
  return [
    '--root',
    globals.root,
    ...(globals.log ? ['--log', globals.log, '--log-format', 'json'] : []),
    ...when(globals.debug, '--debug'),
    ...when(globals.systemdCgroup, '--systemd-cgroup'),
  ];
}

export function createArgs(o: CreateOptions): string[] {
  return [
    'create',
    '--bundle',
    o.bundle,
    '--pid-file',
    o.pidFile,
    ...consoleArgs(o.consoleSocket),
    ...when(o.noPivot, '--no-pivot'),
    ...when(o.noNewKeyring, '--no-new-keyring'),
    o.id,
  ];
}

export function execArgs(o: ExecOptions): string[] {
  return [
    'exec',
    '--process',
    o.process,
    ...consoleArgs(o.consoleSocket),
    '--detach',
    '--pid-file',
    o.pidFile,
    o.id,
  ];
}

/** Not detached: runc ends with the process, and as it. */
export function runArgs(o: RunOptions): string[] {
  return ['exec', '--process', o.process, o.id];
}

export function killArgs(id: string, signal: number, all: boolean): string[] {
  return ['kill', ...when(all, '--all'), id, String(signal)];
}

export function deleteArgs(id: string, force: boolean): string[] {
  return ['delete', ...when(force, '--force'), id];
}

/** The resources come from stdin. */
export function updateArgs(id: string): string[] {
  return ['update', '--resources', '-', id];
}

export function checkpointArgs(o: CheckpointOptions): string[] {
  return [
    'checkpoint',
    '--image-path',
    o.imagePath,
    '--work-path',
    o.workPath,
    ...(o.parentPath ? ['--parent-path', o.parentPath] : []),
    ...when(o.tcpEstablished, '--tcp-established'),
    ...when(o.externalUnixSockets, '--ext-unix-sk'),
    ...when(o.shellJob, '--shell-job'),
    ...when(o.fileLocks, '--file-locks'),
    ...(o.emptyNamespaces ?? []).flatMap((name) => ['--empty-ns', name]),
    ...when(o.leaveRunning, '--leave-running'),
    ...(o.extra ?? []),
    o.id,
  ];
}

export function restoreArgs(o: RestoreOptions): string[] {
  return [
    'restore',
    '--image-path',
    o.imagePath,
    '--work-path',
    o.workPath,
    '--detach',
    '--pid-file',
    o.pidFile,
    ...consoleArgs(o.consoleSocket),
    ...when(o.noPivot, '--no-pivot'),
    ...when(o.tcpEstablished, '--tcp-established'),
    ...when(o.externalUnixSockets, '--ext-unix-sk'),
    ...when(o.fileLocks, '--file-locks'),
    // The shim is the subreaper; runc must not become one itself or the init would be its child.
    '--no-subreaper',
    '--bundle',
    o.bundle,
    ...(o.extra ?? []),
    o.id,
  ];
}

function consoleArgs(socket: string | undefined): string[] {
  return socket ? ['--console-socket', socket] : [];
}

function when(condition: boolean | undefined, flag: string): string[] {
  return condition ? [flag] : [];
}
