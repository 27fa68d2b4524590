import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { hostname } from 'node:os';
import { afterEach, expect, it } from 'vitest';
import { native } from './index.ts';

const HOSTNAME = '/proc/sys/kernel/hostname';
const children: ReturnType<typeof spawn>[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
});

async function otherHost(): Promise<string> {
  const child = spawn('unshare', ['--uts', 'sh', '-c', 'hostname other-host; echo ready; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  children.push(child);
  await once(child.stdout, 'data');
  return `/proc/${child.pid}/ns/uts`;
}

it('reads and writes a setting of another UTS namespace, and leaves our own alone', async () => {
  const uts = await otherHost();
  expect(native.readInNamespaces(HOSTNAME, [uts])).toBe('other-host\n');
  native.writeInNamespaces(HOSTNAME, 'renamed', [uts]);
  expect(native.readInNamespaces(HOSTNAME, [uts])).toBe('renamed\n');
  expect(native.readInNamespaces(HOSTNAME, [])).toBe(`${hostname()}\n`);
});

it('a missing file is undefined, a missing namespace an error that names it', () => {
  expect(native.readInNamespaces('/proc/sys/kernel/no-such-setting', [])).toBeUndefined();
  expect(() => native.readInNamespaces(HOSTNAME, ['/proc/self/ns/none'])).toThrow(
    /ENOENT.*\/proc\/self\/ns\/none/,
  );
  expect(() => native.writeInNamespaces('/proc/sys/kernel/no-such-setting', '1', [])).toThrow(/ENOENT/);
});

it('makes a network with loopback alone, which goes with its descriptor', async () => {
  const network = native.networkNamespace();
  const path = `/proc/self/fd/${network}`;
  const shown = native.readInNamespaces('/proc/thread-self/net/dev', [path]) ?? '';
  expect(shown.split('\n').slice(2, -1)).toEqual([expect.stringMatching(/^ *lo:/)]);
  // Up: on an interface that is down nobody could refuse.
  expect(() => native.connectInNamespace(path, 1)).toThrow(/ECONNREFUSED/);
  closeSync(network);
  expect(() => native.connectInNamespace(path, 1)).toThrow(/ENOENT/);
});

it('sets loopback up where it is down', async () => {
  const child = spawn('unshare', ['--net', 'sh', '-c', 'echo ready; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  children.push(child);
  await once(child.stdout, 'data');
  const network = `/proc/${child.pid}/ns/net`;
  expect(() => native.connectInNamespace(network, 1)).toThrow(/ENETUNREACH/);
  native.loopbackUp(network);
  expect(() => native.connectInNamespace(network, 1)).toThrow(/ECONNREFUSED/);
});

it('connects in the network that is named', async () => {
  const server = createServer((socket) => socket.end('here'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const other = native.networkNamespace();
  expect(() => native.connectInNamespace(`/proc/self/fd/${other}`, port)).toThrow(/ECONNREFUSED/);
  closeSync(other);
  const socket = new Socket({ fd: native.connectInNamespace('/proc/self/ns/net', port) });
  expect(String(await once(socket, 'data').then(([bytes]) => bytes))).toBe('here');
  socket.destroy();
  server.close();
});
