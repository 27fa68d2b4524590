import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { native } from './index.ts';
import { openDescriptors, relay, temporaryFolder } from './testing.ts';

/** What runc does with a console socket, and then the process on the terminal: one command a line, one answer a line. */
const RUNTIME = `
import fcntl, json, os, pty, signal, socket, sys, termios, tty
slave = None
def send(path, fds):
    with socket.socket(socket.AF_UNIX) as s:
        try: s.connect(path)
        except ConnectionRefusedError: return 'refused'
        if fds: socket.send_fds(s, [b'/dev/ptmx'], fds)
def make(path, copies=1, extra=0):
    global slave
    if slave: os.close(slave)
    master, slave = pty.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    send(path, [master] * copies + [0] * extra)
    os.close(master)
    return name
def read(n):
    return os.read(slave, n).decode()
def write(text, times=1):
    for _ in range(times): os.write(slave, text.encode())
def close():
    global slave
    os.close(slave)
    slave = None
def reopen(name):
    global slave
    slave = os.open(name, os.O_RDWR | os.O_NOCTTY)
def size():
    return list(os.get_terminal_size(slave))
for line in sys.stdin:
    name, *args = json.loads(line)
    print(json.dumps(globals()[name](*args)), flush=True)
`;

let runtime: ChildProcess;
let answers: AsyncIterator<string>;
beforeAll(async () => {
  const child = spawn('python3', ['-c', RUNTIME], { stdio: ['pipe', 'pipe', 'inherit'] });
  runtime = child;
  answers = createInterface(child.stdout)[Symbol.asyncIterator]();
  // Starts the addon's thread, which has descriptors of its own.
  await relay(openSync('/dev/null', 'r'), openSync('/dev/null', 'w')).done;
});
afterAll(() => void runtime.kill('SIGKILL'));

async function tell(...command: unknown[]): Promise<unknown> {
  runtime.stdin?.write(`${JSON.stringify(command)}\n`);
  return JSON.parse((await answers.next()).value ?? 'null');
}

function receive(listener: number): { id: number; master: Promise<number> } {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const id = native.consoleReceive(listener, (error, master) =>
    error ? reject(error) : resolve(master ?? -1),
  );
  return { id, master: promise };
}

const socketPath = () => join(temporaryFolder(), 'console');

/** A terminal, made by another process. */
async function terminal() {
  const path = socketPath();
  const { master } = receive(native.consoleListen(path));
  const name = await tell('make', path);
  return { master: await master, name };
}

/** Another descriptor of the same master, as each relay owns one. */
const copy = (master: number) => native.duplicate(master);

function sink(): { reader: number; writer: number } {
  const [reader, writer] = native.pipe();
  return { reader: openSync(`/proc/self/fd/${reader}`, constants.O_RDONLY | constants.O_NONBLOCK), writer };
}

function readNow(fd: number): string {
  const into = Buffer.alloc(1 << 16);
  try {
    return into.subarray(0, readSync(fd, into)).toString();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return '';
    throw error;
  }
}

async function cpuDuring(ms: number): Promise<number> {
  const start = process.cpuUsage();
  await sleep(ms);
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

describe('a console socket', () => {
  test('is for its owner alone and gives exactly one terminal', async () => {
    const path = socketPath();
    const before = openDescriptors();
    const { master } = receive(native.consoleListen(path));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await tell('make', path);
    const fd = await master;
    const flags = Number.parseInt(
      /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '',
      8,
    );
    expect(flags & 0o2000000).not.toBe(0); // close-on-exec
    expect(await tell('send', path, [])).toBe('refused');
    closeSync(fd);
    expect(openDescriptors()).toBe(before);
    expect(existsSync(path)).toBe(true);
  });

  test.each([
    ['nothing', ['send', []], 'ECONNRESET'],
    ['a descriptor that is no terminal', ['send', [0]], 'ENOTTY'],
    ['two terminals', ['make', 2, 0], 'EPROTO'],
    ['a terminal and something else', ['make', 1, 1], 'EPROTO'],
    ['as many as a message carries', ['make', 200, 53], 'EPROTO'],
  ])('refuses %s and keeps none of it', async (_, [command, ...args], code) => {
    const path = socketPath();
    const before = openDescriptors();
    const { master } = receive(native.consoleListen(path));
    const sent = tell(command, path, ...args);
    await expect(master).rejects.toMatchObject({ code });
    await sent;
    expect(openDescriptors()).toBe(before);
  });

  test('is not waited for after it was given up', async () => {
    const before = openDescriptors();
    const path = socketPath();
    const { id, master } = receive(native.consoleListen(path));
    native.consoleCancel(id);
    await expect(master).rejects.toMatchObject({ code: 'ECANCELED' });
    native.consoleCancel(id);
    expect(openDescriptors()).toBe(before);
  });

  test('has a name of at most 107 bytes', () => {
    expect(() => native.consoleListen(join('/tmp', 'x'.repeat(103)))).toThrow(/ENAMETOOLONG/);
    expect(() => native.consoleListen('')).toThrow(/ENAMETOOLONG/);
    expect(() => native.consoleListen('/no/such/folder/console')).toThrow(/ENOENT.*bind/);
  });
});

describe('the size of a terminal', () => {
  test('is what the process on it sees', async () => {
    const { master } = await terminal();
    native.setWindowSize(master, 132, 43);
    expect(await tell('size')).toEqual([132, 43]);
    native.setWindowSize(master, 0, 0);
    expect(await tell('size')).toEqual([0, 0]);
    expect(() => native.setWindowSize(master, 65536, 1)).toThrow(TypeError);
    closeSync(master);
  });

  test('needs a terminal', () => {
    const fd = openSync('/dev/null', 'r');
    expect(() => native.setWindowSize(fd, 80, 24)).toThrow(/ENOTTY.*ioctl/);
    closeSync(fd);
  });
});

describe('a relay with a terminal', () => {
  test('moves bytes both ways', async () => {
    const { master } = await terminal();
    const { reader, writer } = sink();
    const output = relay(copy(master), writer);
    const [from, into] = native.pipe();
    const input = relay(from, copy(master));
    writeSync(into, 'typed');
    expect(await tell('read', 5)).toBe('typed');
    await tell('write', 'shown');
    await expect.poll(() => readNow(reader)).toBe('shown');
    closeSync(into);
    expect(await input.done).toBe(5n);
    native.relayDrain(output.id);
    expect(await output.done).toBe(5n);
    closeSync(reader);
    closeSync(master);
  });

  test('outlives a process that closes it and opens it again, and rests meanwhile', async () => {
    const { master, name } = await terminal();
    const { reader, writer } = sink();
    const output = relay(copy(master), writer);
    await tell('write', 'one');
    await tell('close');
    await expect.poll(() => readNow(reader)).toBe('one');
    expect(await cpuDuring(300)).toBeLessThan(100);
    await tell('reopen', name);
    await tell('write', 'two');
    await expect.poll(() => readNow(reader)).toBe('two');
    await tell('close');
    native.relayDrain(output.id);
    expect(await output.done).toBe(6n);
    closeSync(reader);
    closeSync(master);
  });

  test('drains what was written before the end, though somebody else keeps the terminal open', async () => {
    const { master } = await terminal();
    await tell('write', 'x'.repeat(1000), 2);
    const { reader, writer } = sink();
    const output = relay(copy(master), writer);
    native.relayDrain(output.id);
    expect(await output.done).toBe(2000n);
    expect(readNow(reader)).toBe('x'.repeat(2000));
    closeSync(reader);
    closeSync(master);
  });

  test('waits for a slow reader while it drains', async () => {
    const { master } = await terminal();
    const { reader, writer } = sink();
    const full = Buffer.alloc(65536, 'f');
    writeSync(writer, full);
    const output = relay(copy(master), writer);
    await tell('write', 'last words');
    native.relayDrain(output.id);
    await sleep(50);
    let text = '';
    await expect
      .poll(() => {
        text += readNow(reader);
        return text.length;
      })
      .toBe(65536 + 10);
    expect(text.endsWith('last words')).toBe(true);
    expect(await output.done).toBe(10n);
    closeSync(reader);
    closeSync(master);
  });

  test('passes on a large input that the process reads slowly, and rests while it does not', async () => {
    const { master } = await terminal();
    const text = Array.from({ length: 20_000 }, (_, i) => `${i}\n`).join('');
    const [from, into] = native.pipe();
    const input = relay(from, copy(master));
    const feeder = spawn('seq', ['0', '19999'], { stdio: ['ignore', into, 'inherit'] });
    onTestFinished(() => void feeder.kill('SIGKILL'));
    closeSync(into);
    await sleep(50);
    expect(await cpuDuring(300)).toBeLessThan(100);
    let got = '';
    while (got.length < text.length) got += await tell('read', 3000);
    expect(got === text).toBe(true);
    expect(await input.done).toBe(BigInt(text.length));
    closeSync(master);
  });
});
