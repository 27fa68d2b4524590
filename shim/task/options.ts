/**
 * Options of a task as containerd sends them: those of the runc shims, or those CRI sends to runtimes it does not know. Of
 * what they hold, the daemon itself acts on criu_image_path, and runc has ignored a path of CRIU's since 1.1.
 */
import { containerd, runtimeoptions } from '../../proto/gen/shim.js';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';

export interface RuncOptions {
  binaryName: string;
  /** Parent of runc's state directories, or empty for containerd's default. */
  root: string;
  systemdCgroup: boolean;
  noPivotRoot: boolean;
  noNewKeyring: boolean;
  shimCgroup: string;
  ioUid: number;
  ioGid: number;
  /** CRIU's work directory for a restore; empty for one of the shim's. */
  criuWorkPath: string;
}

export interface AnyMessage {
  type_url?: string | null;
  value?: Uint8Array | null;
}

export const defaultRuncOptions: RuncOptions = {
  binaryName: '',
  root: '',
  systemdCgroup: false,
  noPivotRoot: false,
  noNewKeyring: false,
  shimCgroup: '',
  ioUid: 0,
  ioGid: 0,
  criuWorkPath: '',
};

export interface OptionsContext {
  /** Reads a configuration file named by CRI. */
  readConfig: (path: string) => Promise<string>;
  /** Told of options of a type that no shim of containerd 1.6 or later sends. */
  onUnknown: (type: string) => void;
}

/** Type names come bare or behind a host ("type.googleapis.com/"). */
export function typeName(any: AnyMessage): string {
  return (any.type_url ?? '').replace(/^.*\//, '');
}

export async function decodeRuncOptions(
  any: AnyMessage | null | undefined,
  context: OptionsContext,
): Promise<RuncOptions> {
  const type = any ? typeName(any) : '';
  const value = any?.value ?? new Uint8Array();
  switch (type) {
    case '':
      return defaultRuncOptions;
    case 'containerd.runc.v1.Options':
      return fromRunc(value);
    case 'runtimeoptions.v1.Options':
      return fromRuntimeOptions(value, context);
    default:
      context.onUnknown(type);
      return defaultRuncOptions;
  }
}

function fromRunc(value: Uint8Array): RuncOptions {
  const o = decode('containerd.runc.v1.Options', () => containerd.runc.v1.Options.decode(value));
  return {
    binaryName: o.binaryName,
    root: o.root,
    systemdCgroup: o.systemdCgroup,
    noPivotRoot: o.noPivotRoot,
    noNewKeyring: o.noNewKeyring,
    shimCgroup: o.shimCgroup,
    ioUid: o.ioUid,
    ioGid: o.ioGid,
    criuWorkPath: o.criuWorkPath,
  };
}

async function fromRuntimeOptions(value: Uint8Array, context: OptionsContext): Promise<RuncOptions> {
  const options = decode('runtimeoptions.v1.Options', () => runtimeoptions.v1.Options.decode(value));
  const body = Buffer.from(options.configBody).toString('utf8');
  const toml = body || (options.configPath ? await readConfig(options.configPath, context) : '');
  if (!toml) return defaultRuncOptions;
  const { parse } = await import('smol-toml');
  const table: Record<string, unknown> = decode('runtime options (TOML)', () => parse(toml));
  const keys = new Map(Object.entries(table).map(([key, value]) => [key.toLowerCase(), value]));
  /** containerd's decoder takes keys in any case. */
  const read = <Value>(
    key: string,
    expected: string,
    otherwise: Value,
    is: (value: unknown) => value is Value,
  ) => {
    const value = keys.get(key.toLowerCase());
    if (value === undefined) return otherwise;
    if (is(value)) return value;
    throw new ShimError(
      Code.invalidArgument,
      `Cannot use the runtime option ${key} = ${JSON.stringify(value)}, expected ${expected}`,
    );
  };
  const text = (key: string) => read(key, 'a string', '', isString);
  const flag = (key: string) => read(key, 'true or false', false, isBoolean);
  const id = (key: string) => read(key, 'a user or group id', 0, isId);
  return {
    binaryName: text('BinaryName'),
    root: text('Root'),
    systemdCgroup: flag('SystemdCgroup'),
    noPivotRoot: flag('NoPivotRoot'),
    noNewKeyring: flag('NoNewKeyring'),
    shimCgroup: text('ShimCgroup'),
    ioUid: id('IoUid'),
    ioGid: id('IoGid'),
    criuWorkPath: text('CriuWorkPath'),
  };
}

async function readConfig(path: string, context: OptionsContext): Promise<string> {
  try {
    return await context.readConfig(path);
  } catch (cause) {
    throw new ShimError(Code.invalidArgument, `Cannot read the runtime options in "${path}"`, { cause });
  }
}

const isString = (value: unknown): value is string => typeof value === 'string';
const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean';
const isId = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) < 2 ** 32;

function decode<Result>(what: string, parse: () => Result): Result {
  try {
    return parse();
  } catch (cause) {
    throw new ShimError(Code.invalidArgument, `Cannot decode ${what}`, { cause });
  }
}

/** runc names a systemd cgroup "slice:prefix:name"; any other path is one of a cgroup file system. */
export function isSystemdCgroupPath(path: string | undefined): boolean {
  return /^[^/:]*\.slice:[^/:]*:[^/:]+$/.test(path ?? '');
}

export interface DumpOptions {
  exit: boolean;
  openTcp: boolean;
  externalUnixSockets: boolean;
  terminal: boolean;
  fileLocks: boolean;
  emptyNamespaces: string[];
  imagePath: string;
  workPath: string;
  parentPath: string;
}

export function decodeDumpOptions(any: AnyMessage | null | undefined): DumpOptions {
  const type = any ? typeName(any) : '';
  if (type !== '' && type !== 'containerd.runc.v1.CheckpointOptions')
    throw new ShimError(
      Code.invalidArgument,
      `Cannot take checkpoint options of type "${type}"; send containerd.runc.v1.CheckpointOptions`,
    );
  const value = any?.value ?? new Uint8Array();
  const o = decode('containerd.runc.v1.CheckpointOptions', () =>
    containerd.runc.v1.CheckpointOptions.decode(value),
  );
  return {
    exit: o.exit,
    openTcp: o.openTcp,
    externalUnixSockets: o.externalUnixSockets,
    terminal: o.terminal,
    fileLocks: o.fileLocks,
    emptyNamespaces: o.emptyNamespaces,
    imagePath: o.imagePath,
    workPath: o.workPath,
    parentPath: o.parentPath,
  };
}
