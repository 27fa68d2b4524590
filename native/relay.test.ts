import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { native } from './index.ts';
import { openDescriptors, randomBytes, relay, runNode, temporaryFolder } from './testing.ts';

const bytes = randomBytes(42, 5 * 1024 * 1024 + 7);

function source(): string {
  const file = join(temporaryFolder(), 'source');
  writeFileSync(file, bytes);
  return file;
}

function fifo(): string {
  const path = join(temporaryFolder(), 'fifo');
  execFileSync('mkfifo', [path]);
  return path;
}

/** Another process writes the file into the descriptor, which is given away. */
async function feed(fd: number, file: string): Promise<void> {
  const child = spawn('cat', [file], { stdio: ['ignore', fd, 'inherit'] });
  closeSync(fd);
  await once(child, 'exit');
}

/** Another process reads the descriptor to its end; it is given away. */
async function readAll(fd: number): Promise<Buffer> {
  const child = spawn('cat', { stdio: [fd, 'pipe', 'inherit'] });
  closeSync(fd);
  return buffer(child.stdout as NonNullable<typeof child.stdout>);
}

/** Reads up to `most` bytes of a non-blocking descriptor; none if there are none now. */
function readNow(fd: number, most = 1 << 20): Buffer {
  const into = Buffer.alloc(most);
  try {
    return into.subarray(0, readSync(fd, into, 0, most, null));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return into.subarray(0, 0);
    throw error;
  }
}

/** Writes until the pipe is full and returns how much it took. */
function fill(path: string): number {
  const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  let count = 0;
  try {
    for (;;) count += writeSync(fd, Buffer.alloc(4096, 'f'));
  } catch (error) {
    expect(error).toMatchObject({ code: 'EAGAIN' });
  } finally {
    closeSync(fd);
  }
  return count;
}

/** Processor time of all threads of this process while `ms` pass, in milliseconds. */
async function cpuDuring(ms: number): Promise<number> {
  const start = process.cpuUsage();
  await sleep(ms);
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

/** The path under which another descriptor of the same open pipe can be opened. */
const reopen = (fd: number) => `/proc/self/fd/${fd}`;

describe('a relay moves every byte in order', () => {
  test('from pipe to pipe', async () => {
    const [from, into] = native.pipe();
    const [out, to] = native.pipe();
    const moving = relay(from, to);
    const [read, count] = await Promise.all([readAll(out), moving.done, feed(into, source())]);
    expect(read.equals(bytes)).toBe(true);
    expect(count).toBe(BigInt(bytes.length));
  });

  test.each([
    ['a new file', 'w', ''],
    ['a file opened for appending, which splice refuses', 'a', 'before'],
  ])('from pipe to %s', async (_, flags, before) => {
    const sink = join(temporaryFolder(), 'sink');
    writeFileSync(sink, before);
    const [from, into] = native.pipe();
    const moving = relay(from, openSync(sink, flags));
    await Promise.all([feed(into, source()), moving.done]);
    expect(readFileSync(sink).equals(Buffer.concat([Buffer.from(before), bytes]))).toBe(true);
    expect(await moving.done).toBe(BigInt(bytes.length));
  });

  test('from file to pipe', async () => {
    const [out, to] = native.pipe();
    const moving = relay(openSync(source(), 'r'), to);
    const [read, count] = await Promise.all([readAll(out), moving.done]);
    expect(read.equals(bytes)).toBe(true);
    expect(count).toBe(BigInt(bytes.length));
  });

  test('from file to file', async () => {
    const sink = join(temporaryFolder(), 'sink');
    expect(await relay(openSync(source(), 'r'), openSync(sink, 'w')).done).toBe(BigInt(bytes.length));
    expect(readFileSync(sink).equals(bytes)).toBe(true);
  });

  test('into /dev/null', async () => {
    const [from, into] = native.pipe();
    const moving = relay(from, openSync('/dev/null', 'w'));
    await feed(into, source());
    expect(await moving.done).toBe(BigInt(bytes.length));
  });

  test('from a device that cannot be waited for', async () => {
    expect(await relay(openSync('/dev/null', 'r'), openSync('/dev/null', 'w')).done).toBe(0n);
  });

  test('through a fifo that is held open in both directions', async () => {
    const path = fifo();
    const to = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const [from, into] = native.pipe();
    const moving = relay(from, to);
    // Its reader sees the end once the relay has closed the last writer.
    const [read] = await Promise.all([readAll(openSync(path, 'r')), feed(into, source()), moving.done]);
    expect(read.equals(bytes)).toBe(true);
  });
});

describe('a slow reader', () => {
  test('holds up its own relay only, and costs no processor time', async () => {
    const slow = fifo();
    const reader = openSync(slow, constants.O_RDONLY | constants.O_NONBLOCK);
    const [from, into] = native.pipe();
    const stuck = relay(from, openSync(slow, constants.O_RDWR | constants.O_NONBLOCK));
    const feeding = feed(into, source());

    const [from2, into2] = native.pipe();
    const [out2, to2] = native.pipe();
    const other = relay(from2, to2);
    const [read] = await Promise.all([readAll(out2), feed(into2, source()), other.done]);
    expect(read.equals(bytes)).toBe(true);

    // Nothing moves now: the fifo is full and nobody reads.
    expect(await cpuDuring(300)).toBeLessThan(100);

    const slowly = await readAll(openSync(slow, 'r'));
    closeSync(reader);
    await feeding;
    expect(await stuck.done).toBe(BigInt(bytes.length));
    expect(slowly.equals(bytes)).toBe(true);
  });

  test('gets every byte when the pipe is only freed in small pieces', async () => {
    const path = fifo();
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const part = bytes.subarray(0, 200_000);
    const file = join(temporaryFolder(), 'part');
    writeFileSync(file, part);
    const [from, into] = native.pipe();
    const moving = relay(from, openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    const feeding = feed(into, file);
    const parts: Buffer[] = [];
    for (let got = 0; got < part.length; ) {
      const piece = readNow(reader, 1777);
      got += piece.length;
      parts.push(piece);
      if (piece.length === 0) await sleep(1);
    }
    closeSync(reader);
    await feeding;
    expect(await moving.done).toBe(BigInt(part.length));
    expect(Buffer.concat(parts).equals(part)).toBe(true);
  });

  test('is not waited for by a stop', async () => {
    const path = fifo();
    const sink = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const filled = fill(path);
    const [from, into] = native.pipe();
    const moving = relay(from, sink);
    writeSync(into, 'cannot go anywhere');
    await sleep(20);
    native.relayStop(moving.id);
    expect(await moving.done).toBe(0n);
    expect(filled).toBe(65536);
    closeSync(into);
  });
});

describe('the end of a relay', () => {
  test('an idle one costs no processor time and keeps nothing back', async () => {
    const [from, into] = native.pipe();
    const [out, to] = native.pipe();
    const reader = openSync(reopen(out), constants.O_RDONLY | constants.O_NONBLOCK);
    const moving = relay(from, to);
    writeSync(into, 'one');
    await expect.poll(() => readNow(reader).toString()).toBe('one');
    expect(await cpuDuring(300)).toBeLessThan(100);
    writeSync(into, 'two');
    await expect.poll(() => readNow(reader).toString()).toBe('two');
    closeSync(into);
    expect(await moving.done).toBe(6n);
    expect(readSync(out, Buffer.alloc(1))).toBe(0);
    closeSync(out);
    closeSync(reader);
  });

  test('stop moves what is there and closes, though the writer is still open', async () => {
    const [from, into] = native.pipe();
    const [out, to] = native.pipe();
    writeSync(into, Buffer.alloc(60_000, 'x'));
    const moving = relay(from, to);
    native.relayStop(moving.id);
    expect(await moving.done).toBe(60_000n);
    expect((await readAll(out)).length).toBe(60_000);
    expect(() => writeSync(into, 'too late')).toThrow(/EPIPE/);
    closeSync(into);
  });

  test('stop ends a relay whose writer never stops', async () => {
    const moving = relay(openSync('/dev/zero', 'r'), openSync('/dev/null', 'w'));
    await sleep(20);
    native.relayStop(moving.id);
    expect(await moving.done).toBeGreaterThan(1_000_000n);
  });

  test('stop of an unknown or ended relay does nothing', async () => {
    const moving = relay(openSync('/dev/null', 'r'), openSync('/dev/null', 'w'));
    await moving.done;
    native.relayStop(moving.id);
    native.relayStop(123456789);
  });

  test('a sink without readers ends it with EPIPE', async () => {
    const [from, into] = native.pipe();
    const [out, to] = native.pipe();
    closeSync(out);
    const moving = relay(from, to);
    writeSync(into, 'for nobody');
    await expect(moving.done).rejects.toMatchObject({ code: 'EPIPE', errno: -32, syscall: 'splice' });
    closeSync(into);
  });

  test('a sink whose reader goes while the relay waits for room ends it with EPIPE', async () => {
    const [from, into] = native.pipe();
    const [out, to] = native.pipe();
    const moving = relay(from, to);
    const feeding = feed(into, source());
    await sleep(50);
    closeSync(out);
    await expect(moving.done).rejects.toMatchObject({ code: 'EPIPE' });
    await feeding;
  });

  test('a fifo whose writers went ends it, however often they hang up', async () => {
    const path = fifo();
    const from = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const keeper = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    const [out, to] = native.pipe();
    const moving = relay(from, to);
    for (let i = 0; i < 3; i++) writeFileSync(path, 'again ');
    expect(await cpuDuring(200)).toBeLessThan(100);
    closeSync(keeper);
    expect(await moving.done).toBe(18n);
    expect((await readAll(out)).toString()).toBe('again again again ');
  });

  test('a closed descriptor is refused at once', () => {
    const [from, to] = native.pipe();
    closeSync(from);
    expect(() => native.relayStart(from, to, () => {})).toThrow(/^EBADF: bad file descriptor, fstat$/);
    closeSync(to);
  });

  test('a thousand leave no descriptor behind', async () => {
    await relay(openSync('/dev/null', 'r'), openSync('/dev/null', 'w')).done;
    const before = openDescriptors();
    for (let round = 0; round < 20; round++) {
      const running = Array.from({ length: 50 }, (_, i) => {
        const [from, into] = native.pipe();
        const moving = relay(from, openSync('/dev/null', 'w'));
        writeSync(into, 'x');
        if (i % 2) {
          closeSync(into);
          return moving.done;
        }
        native.relayStop(moving.id);
        return moving.done.finally(() => closeSync(into));
      });
      expect(await Promise.all(running)).toEqual(running.map(() => 1n));
    }
    expect(openDescriptors()).toBe(before);
  });

  test('a process may end while relays are pending', async () => {
    const output = await runNode(`
      const [from] = native.pipe();
      const [, to] = native.pipe();
      native.relayStart(from, to, () => console.log('never'));
      console.log('leaving');
      process.exit(0);`);
    expect(output).toBe('leaving\n');
  });
});

test('a container keeps blocking pipes: only the relay side may change', async () => {
  const [from, into] = native.pipe();
  const sink = join(temporaryFolder(), 'sink');
  // Appending makes the relay copy, for which its own side becomes non-blocking.
  const moving = relay(from, openSync(sink, 'a'));
  const flags = readFileSync(`/proc/self/fdinfo/${into}`, 'utf8').match(/flags:\s+(\d+)/)?.[1] ?? '';
  expect(Number.parseInt(flags, 8) & constants.O_NONBLOCK).toBe(0);
  closeSync(into);
  await moving.done;
});
