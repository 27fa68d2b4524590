/** The listening socket of a pod's server: made once, shared by the pod's containers, replaced when its owner is gone. */
import { chmodSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { dirname } from 'node:path';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import { MAX_SOCKET_PATH } from './address.ts';

const PROBE_MS = 100;

export type Listening = { kind: 'new'; server: Server; fd: number } | { kind: 'shared' };

/** `shared`: another server of the pod answers there. */
export async function listenOrShare(path: string): Promise<Listening> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH)
    throw new ShimError(
      Code.invalidArgument,
      `Cannot listen on "${path}": the path is longer than ${MAX_SOCKET_PATH} bytes`,
    );
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    return await listen(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
  }
  if (await answers(path)) return { kind: 'shared' };
  removeSocket(path);
  return listen(path);
}

/** True if somebody accepts connections there. */
export function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const done = (result: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => done(false), PROBE_MS);
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
}

export function removeSocket(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function listen(path: string): Promise<Listening> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    // Nobody else may connect, not even between bind and chmod.
    const umask = process.umask(0o177);
    server.listen({ path }, () => {
      chmodSync(path, 0o600);
      resolve({ kind: 'new', server, fd: descriptorOf(server) });
    });
    process.umask(umask);
  });
}

/** Node has no public way to a server's descriptor, and a child can inherit it only by number. */
function descriptorOf(server: Server): number {
  const fd = (server as unknown as { _handle?: { fd?: number } })._handle?.fd;
  if (fd === undefined || fd < 0)
    throw new ShimError(Code.internal, 'Cannot find the descriptor of a listening socket');
  return fd;
}
