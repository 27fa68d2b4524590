import { spawn } from 'node:child_process';
import { once } from 'node:events';
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
