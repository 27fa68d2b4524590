/**
 * Command line of a shim, read as Go's flag package does: one or two dashes, "-name value" or "-name=value", and the
 * first word that is no flag ends them and is the action. The order differs between containerd's releases. Pure.
 */
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';

export interface ShimFlags {
  action: 'start' | 'delete' | 'serve' | 'info' | 'version';
  namespace: string;
  id: string;
  /** containerd's gRPC socket. */
  address: string;
  publishBinary: string;
  bundle: string;
  /** Where the server listens, or what its inherited listener is bound to. */
  socket: string;
  debug: boolean;
}

const VALUES = {
  namespace: 'namespace',
  id: 'id',
  address: 'address',
  'publish-binary': 'publishBinary',
  bundle: 'bundle',
  socket: 'socket',
} as const satisfies Record<string, keyof ShimFlags>;

const SWITCHES = ['debug', 'v', 'version', 'info'];

export function parseFlags(args: readonly string[]): ShimFlags {
  const flags: ShimFlags = {
    action: 'serve',
    namespace: '',
    id: '',
    address: '',
    publishBinary: '',
    bundle: '',
    socket: '',
    debug: false,
  };
  for (let at = 0; at < args.length; at += 1) {
    const word = args[at] ?? '';
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word);
    if (!match) {
      // "--" ends the flags too.
      const action = word === '--' ? args[at + 1] : word;
      if (action !== undefined) flags.action = actionOf(action);
      break;
    }
    const [, name = '', inline] = match;
    if (SWITCHES.includes(name)) {
      if (inline === 'false' || inline === '0') continue;
      if (name === 'debug') flags.debug = true;
      else if (name === 'info') flags.action = 'info';
      else flags.action = 'version';
    } else if (Object.hasOwn(VALUES, name)) {
      const value = inline ?? args[at + 1];
      if (inline === undefined) at += 1;
      if (value === undefined) throw new ShimError(Code.invalidArgument, `flag needs an argument: -${name}`);
      flags[VALUES[name as keyof typeof VALUES]] = value;
    } else {
      throw new ShimError(Code.invalidArgument, `flag provided but not defined: -${name}`);
    }
    if (flags.action !== 'serve') break;
  }
  return flags;
}

function actionOf(word: string): ShimFlags['action'] {
  switch (word) {
    case 'start':
    case 'delete':
    case 'serve':
      return word;
    default:
      throw new ShimError(Code.invalidArgument, `Unknown action "${word}"; use start or delete`);
  }
}

/** What every action on a container needs. */
export function requireContainer(flags: ShimFlags): void {
  if (!flags.namespace) throw new ShimError(Code.invalidArgument, 'shim namespace cannot be empty');
  // Both become part of a path.
  for (const [what, value] of [
    ['namespace', flags.namespace],
    ['id', flags.id],
  ] as const)
    if (value.includes('/') || value === '.' || value === '..')
      throw new ShimError(Code.invalidArgument, `Cannot use "${value}" as a ${what}`);
}
