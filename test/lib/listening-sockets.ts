/** Listening sockets that are held for a daemon, as systemd holds those of a .socket unit. */
import { once } from 'node:events';
import { chmodSync, closeSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { native } from '../../native/index.ts';

export class ListeningSockets {
  readonly paths: readonly string[];
  /** In the order of the paths; for a child, not to be read here. */
  readonly descriptors: readonly number[];

  private constructor(paths: readonly string[], descriptors: readonly number[]) {
    this.paths = paths;
    this.descriptors = descriptors;
  }

  static async make(paths: readonly string[]): Promise<ListeningSockets> {
    const descriptors: number[] = [];
    for (const path of paths) descriptors.push(await hold(path));
    return new ListeningSockets(paths, descriptors);
  }

  /** What systemd sets beside LISTEN_PID. */
  get environment(): NodeJS.ProcessEnv {
    return { LISTEN_FDS: String(this.descriptors.length) };
  }

  close(): void {
    for (const fd of this.descriptors) closeSync(fd);
    for (const path of this.paths) rmSync(path, { force: true });
  }
}

/** Node can only listen and accept: the descriptor is duplicated, and the server that would accept is closed. */
async function hold(path: string): Promise<number> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const server = createServer();
  server.listen(path);
  await once(server, 'listening');
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const held = native.duplicate(fd);
  // Its end would remove the name.
  renameSync(path, `${path}.held`);
  await new Promise((done) => server.close(done));
  renameSync(`${path}.held`, path);
  chmodSync(path, 0o600);
  return held;
}
