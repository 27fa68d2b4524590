import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { thaw } from '../../proto/gen/thaw.js';
import { Code } from '../../proto/status.ts';
import { method, TtrpcError, TtrpcServer } from '../../proto/ttrpc/index.ts';
import { daemonAt } from './daemon.ts';

const { AwaitRequest, AwaitResponse } = thaw.v1;

let dir: string;
let socket: string;
let listener: Server;
/** Connections that break as soon as something is asked. */
let breaks: number;
let connections: number;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-daemon-'));
  socket = join(dir, 's');
  breaks = 0;
  connections = 0;
  const server = new TtrpcServer({
    services: {
      'thaw.v1.Checkpoints': {
        Await: method(AwaitRequest, AwaitResponse, ({ id }) => {
          if (id === 'gone') throw new TtrpcError(Code.unavailable, 'the registry is down');
          return { fetchedBytes: 0, localBytes: 0 };
        }),
      },
    },
  });
  listener = createServer((connection) => {
    connections += 1;
    if (connections <= breaks) connection.once('data', () => connection.destroy());
    else server.serve(connection);
  });
  await new Promise<void>((done) => listener.listen(socket, done));
});
afterEach(async () => {
  await new Promise((done) => listener.close(done));
  rmSync(dir, { recursive: true });
});

test('a call under which the connection breaks is made again: another daemon has taken over', async () => {
  breaks = 2;
  await daemonAt(socket).awaitComplete('a', 10_000);
  expect(connections).toBe(3);
});

test('a daemon that breaks every connection is given up', async () => {
  breaks = 10;
  await expect(daemonAt(socket).awaitComplete('a', 10_000)).rejects.toMatchObject({ code: Code.unavailable });
  expect(connections).toBe(3);
});

test('what the daemon answers is an answer', async () => {
  await expect(daemonAt(socket).awaitComplete('gone', 10_000)).rejects.toThrow('the registry is down');
  expect(connections).toBe(1);
});
