/** Where the client wants a stream to go. Pure. */
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';

/** What a client opens the other end of. */
export type ClientTarget = { kind: 'fifo'; path: string } | { kind: 'file'; path: string };

export type StreamTarget = { kind: 'none' } | ClientTarget;

export interface DriverTarget {
  kind: 'driver';
  /** Absolute path of the program. */
  path: string;
  args: string[];
  /** Ending the ready pipe without a word is a failure (binary-v2). */
  needsReady: boolean;
}

export interface StdioPaths {
  /** A fifo's path, or empty. */
  stdin: string;
  /** A fifo's path, an URI, or empty. */
  stdout: string;
  /** Unused with a terminal. */
  stderr: string;
  terminal: boolean;
}

export type OutputTargets =
  | { kind: 'streams'; stdout: StreamTarget; stderr: StreamTarget }
  /** One for both. */
  | DriverTarget;

export interface StdioTargets {
  stdin: StreamTarget;
  output: OutputTargets;
}

/**
 * As containerd's own shim: the scheme is taken from stdout alone, and a file or driver that it names takes both streams.
 * InvalidArgument for what cannot be understood.
 */
export function stdioTargets(paths: StdioPaths): StdioTargets {
  const stdin = fifo(paths.stdin);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(paths.stdout)?.[1]?.toLowerCase() ?? 'fifo';
  switch (scheme) {
    case 'fifo':
      return { stdin, output: { kind: 'streams', stdout: fifo(paths.stdout), stderr: fifo(paths.stderr) } };
    case 'file': {
      const stdout: StreamTarget = { kind: 'file', path: parsePath(parse(paths.stdout)) };
      const stderr: StreamTarget = paths.stderr ? stdout : { kind: 'none' };
      return { stdin, output: { kind: 'streams', stdout, stderr } };
    }
    case 'binary':
    case 'binary-v2': {
      const uri = parse(paths.stdout);
      const output: DriverTarget = {
        kind: 'driver',
        path: parsePath(uri),
        args: driverArgs(uri.searchParams),
        needsReady: scheme === 'binary-v2',
      };
      return { stdin, output };
    }
    default:
      throw new ShimError(Code.invalidArgument, `unknown STDIO scheme ${scheme}`);
  }
}

/** Each name with its first value, in the order of the URI. */
function driverArgs(query: URLSearchParams): string[] {
  return [...new Set(query.keys())].flatMap((name) => [name, query.get(name) ?? '']);
}

function fifo(path: string): StreamTarget {
  const bare = path.replace(/^fifo:\/\//i, '');
  return bare ? { kind: 'fifo', path: bare } : { kind: 'none' };
}

function parse(uri: string): URL {
  if (!URL.canParse(uri))
    throw new ShimError(Code.invalidArgument, `unable to parse stdout uri: "${uri}" is none`);
  return new URL(uri);
}

function parsePath(uri: URL): string {
  try {
    const path = decodeURIComponent(uri.pathname);
    if (path.length > 1 && !path.includes('\0')) return path;
  } catch {
    // an incomplete escape
  }
  throw new ShimError(Code.invalidArgument, `unable to parse stdout uri: no path in "${uri.href}"`);
}
