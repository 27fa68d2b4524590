/**
 * Command line of the server, as the launcher writes it (native/launcher/start.cc) or somebody does by hand. The launcher
 * has read it before, so this needs less than Go's flag package: "-name value" or "-name=value". Pure.
 */
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';

export interface ShimFlags {
  namespace: string;
  id: string;
  /** containerd's gRPC socket. */
  address: string;
  publishBinary: string;
  bundle: string;
  /** What the inherited listener is bound to. */
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

export function parseFlags(args: readonly string[]): ShimFlags {
  const flags: ShimFlags = {
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
      if (word !== 'serve') throw new ShimError(Code.invalidArgument, `Unknown action "${word}"`);
      break;
    }
    const [, name = '', inline] = match;
    if (name === 'debug') {
      flags.debug = inline !== 'false';
    } else if (Object.hasOwn(VALUES, name)) {
      const value = inline ?? args[at + 1];
      if (inline === undefined) at += 1;
      if (value === undefined) throw new ShimError(Code.invalidArgument, `flag needs an argument: -${name}`);
      flags[VALUES[name as keyof typeof VALUES]] = value;
    } else {
      throw new ShimError(Code.invalidArgument, `flag provided but not defined: -${name}`);
    }
  }
  if (!flags.namespace) throw new ShimError(Code.invalidArgument, 'shim namespace cannot be empty');
  return flags;
}
