/** Where the client wants a stream to go. Pure. */
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';

export type StreamTarget = { kind: 'none' } | { kind: 'fifo'; path: string } | { kind: 'file'; path: string };

export interface StdioPaths {
  /** A fifo's path, or empty. */
  stdin: string;
  /** A fifo's path, an URI, or empty. */
  stdout: string;
  stderr: string;
}

export interface StdioTargets {
  stdin: StreamTarget;
  stdout: StreamTarget;
  stderr: StreamTarget;
}

/** As containerd's own shim: the scheme is taken from stdout alone; a file takes both streams. */
export function stdioTargets(paths: StdioPaths): StdioTargets {
  const stdin = fifo(paths.stdin);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(paths.stdout)?.[1]?.toLowerCase() ?? 'fifo';
  switch (scheme) {
    case 'fifo':
      return {
        stdin,
        stdout: fifo(paths.stdout.replace(/^fifo:\/\//i, '')),
        stderr: fifo(paths.stderr.replace(/^fifo:\/\//i, '')),
      };
    case 'file': {
      const path = filePath(paths.stdout);
      const target: StreamTarget = { kind: 'file', path };
      return { stdin, stdout: target, stderr: target };
    }
    case 'binary':
      throw new ShimError(
        Code.unimplemented,
        'Cannot log to a binary:// program with this shim; use a fifo or file:// for stdout',
      );
    default:
      throw new ShimError(Code.invalidArgument, `unknown STDIO scheme ${scheme}`);
  }
}

function fifo(path: string): StreamTarget {
  return path ? { kind: 'fifo', path } : { kind: 'none' };
}

function filePath(uri: string): string {
  const path = URL.canParse(uri) ? decodeURIComponent(new URL(uri).pathname) : '';
  if (path.length < 2) throw new ShimError(Code.invalidArgument, `Cannot find a path in "${uri}"`);
  return path;
}
