import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { native } from './index.ts';
import { temporaryFolder } from './testing.ts';

function lockFile(): string {
  const path = join(temporaryFolder(), 'lock');
  writeFileSync(path, '');
  return path;
}

function open(path: string): number {
  const fd = openSync(path, 'r');
  onTestFinished(() => closeSync(fd));
  return fd;
}

test('an exclusive lock keeps others out until it is closed', () => {
  const path = lockFile();
  const first = openSync(path, 'r');
  const second = open(path);
  expect(native.tryLock(first, true)).toBe(true);
  expect(native.tryLock(second, true)).toBe(false);
  expect(native.tryLock(second, false)).toBe(false);
  closeSync(first);
  expect(native.tryLock(second, true)).toBe(true);
});

test('shared locks go together and keep an exclusive one out', () => {
  const path = lockFile();
  const [first, second, third] = [open(path), open(path), open(path)];
  expect(native.tryLock(first, false)).toBe(true);
  expect(native.tryLock(second, false)).toBe(true);
  expect(native.tryLock(third, true)).toBe(false);
});

test('a lock of a process that was killed is free', async () => {
  const path = lockFile();
  const holder = spawn('flock', [path, 'sh', '-c', 'echo held; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  await once(holder.stdout, 'data');
  const fd = open(path);
  expect(native.tryLock(fd, true)).toBe(false);
  process.kill(-(holder.pid as number), 'SIGKILL');
  await expect.poll(() => native.tryLock(fd, true)).toBe(true);
});

test('locking nothing names the error', () => {
  expect(() => native.tryLock(1_000_000, true)).toThrow('EBADF: bad file descriptor, flock');
});

test('pipe gives two ends that no child inherits', () => {
  const [read, write] = native.pipe();
  for (const fd of [read, write]) {
    expect(fstatSync(fd).isFIFO()).toBe(true);
    // Octal 02000000 is O_CLOEXEC; 04000 would be O_NONBLOCK.
    expect(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')).toMatch(
      /flags:\s+020000[01]\d$|flags:\s+0200000[01]\b/m,
    );
    closeSync(fd);
  }
});

test('fchown keeps the owner where it is told the same, and names errors', () => {
  const fd = open(lockFile());
  const { uid, gid } = fstatSync(fd);
  native.fchown(fd, uid, gid);
  expect(fstatSync(fd)).toMatchObject({ uid, gid });
  expect(() => native.fchown(1_000_000, uid, gid)).toThrow('EBADF: bad file descriptor, fchown');
});

test('realtime is the wall clock in nanoseconds', () => {
  const before = BigInt(Date.now()) * 1_000_000n;
  const now = native.realtime();
  expect(now - before).toBeGreaterThanOrEqual(0n);
  expect(now - before).toBeLessThan(1_000_000_000n);
});

test('peerCredentials tells who connected', async () => {
  const path = join(temporaryFolder(), 'socket');
  const server = createServer().listen(path);
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const client = connect(path);
  const [accepted] = (await once(server, 'connection')) as [Socket];
  const fd = (accepted as unknown as { _handle: { fd: number } })._handle.fd;
  expect(native.peerCredentials(fd)).toEqual({
    pid: process.pid,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
  });
  client.destroy();
  accepted.destroy();
});

test('peerCredentials of a file is an error', () => {
  expect(() => native.peerCredentials(open(lockFile()))).toThrow(/^ENOTSOCK: .*, getsockopt$/);
});

test('syncfs takes any open file', () => {
  native.syncfs(open(lockFile()));
  expect(() => native.syncfs(1_000_000)).toThrow('EBADF: bad file descriptor, syncfs');
});
