import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { TerminalIo } from './terminal-io.ts';

const { O_RDONLY, O_NONBLOCK } = constants;

/** A kernel whose terminals are /dev/null, and whose relays end when told to. */
class FakeKernel {
  readonly events: string[] = [];
  readonly relays = new Map<number, () => void>();
  send: (error: Error | null, master?: number) => void = () => {};
  #next = 1;

  pipe(): [number, number] {
    throw new Error('a terminal needs no pipe');
  }
  fchown(): void {}
  relayStart(from: number, to: number, done: (error: Error | null) => void): number {
    const id = this.#next++;
    this.relays.set(id, () => {
      this.relays.delete(id);
      closeSync(from);
      closeSync(to);
      done(null);
    });
    return id;
  }
  relayStop(id: number): void {
    this.relays.get(id)?.();
  }
  relayDrain(id: number): void {
    this.events.push('drain');
    this.relays.get(id)?.();
  }
  consoleListen(path: string): number {
    writeFileSync(path, '');
    return openSync('/dev/null', 'r');
  }
  consoleReceive(listener: number, done: (error: Error | null, master?: number) => void): number {
    this.send = (error, master) => {
      this.send = () => {};
      closeSync(listener);
      if (error) done(error);
      else done(null, master);
    };
    return this.#next++;
  }
  consoleCancel(): void {
    this.send(Object.assign(new Error('ECANCELED'), { code: 'ECANCELED' }));
  }
  setWindowSize(_fd: number, columns: number, rows: number): void {
    this.events.push(`${columns}x${rows}`);
  }
  duplicate(): number {
    return openSync('/dev/null', 'r+');
  }
}

let bundle: string;
let kernel: FakeKernel;
const descriptors = () => readdirSync('/proc/self/fd').length;
const sockets = () => readdirSync(bundle).filter((name) => name.endsWith('.sock'));
const tick = () => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  bundle = mkdtempSync(join(tmpdir(), 'terminal-'));
  for (const name of ['in', 'out']) execFileSync('mkfifo', [join(bundle, name)]);
  kernel = new FakeKernel();
});
afterEach(() => rmSync(bundle, { recursive: true }));

function open(): TerminalIo {
  return new TerminalIo(
    {
      stdin: { kind: 'fifo', path: join(bundle, 'in') },
      stdout: { kind: 'fifo', path: join(bundle, 'out') },
    },
    bundle,
    kernel,
  );
}
async function started(): Promise<TerminalIo> {
  const io = open();
  kernel.send(null, openSync('/dev/null', 'r+'));
  await io.started();
  return io;
}

describe('TerminalIo', () => {
  it('waits at a short path in the bundle, and leaves nothing there', async () => {
    const before = descriptors();
    const io = open();
    expect(io.consoleSocket.length).toBeLessThan(60);
    expect(sockets()).toHaveLength(1);
    expect(io.childStdio).toEqual(['ignore', 'ignore', 'ignore']);
    kernel.send(null, openSync('/dev/null', 'r+'));
    await io.started();
    expect(sockets()).toEqual([]);
    expect(kernel.relays.size).toBe(2);
    await io.finish(10);
    expect(kernel.relays.size).toBe(0);
    expect(descriptors()).toBe(before);
  });

  it('passes sizes on, as the kernel counts them', async () => {
    const io = open();
    io.resize(1, 1);
    kernel.send(null, openSync('/dev/null', 'r+'));
    await io.started();
    io.resize(80, 24);
    io.resize(65536 + 7, 0);
    expect(kernel.events).toEqual(['80x24', '7x0']);
    await io.close();
    io.resize(80, 24);
    expect(kernel.events.filter((event) => event !== 'drain')).toEqual(['80x24', '7x0']);
  });

  it('drains when the process ends, though others may have the terminal', async () => {
    const io = await started();
    io.exited();
    expect(kernel.events).toEqual(['drain']);
    await io.close();
  });

  it('hangs up when the input ends', async () => {
    const io = await started();
    const open = descriptors();
    io.closeStdin();
    [...kernel.relays.values()][1]?.();
    await tick();
    expect(kernel.events).toEqual(['drain']);
    // The writer of the input, both relays with two descriptors each, and the master.
    expect(descriptors()).toBe(open - 6);
    io.resize(80, 24);
    expect(kernel.events).toEqual(['drain']);
    await io.close();
  });

  it('says what came instead of a terminal', async () => {
    const before = descriptors();
    const io = open();
    kernel.send(new Error('ENOTTY: no terminal'));
    await expect(io.started()).rejects.toMatchObject({
      message: 'failed to retrieve console master: ENOTTY: no terminal',
    });
    await io.close();
    expect(descriptors()).toBe(before);
  });

  it('leaves nothing when the process could not be made, even if its terminal comes later', async () => {
    const before = descriptors();
    const io = open();
    const starting = expect(io.started()).rejects.toMatchObject({ code: Code.unknown });
    await io.close();
    await starting;
    const another = open();
    const late = kernel.send;
    kernel.consoleCancel = () => {};
    const closing = another.close();
    late(null, openSync('/dev/null', 'r+'));
    await closing;
    expect(descriptors()).toBe(before);
    expect(sockets()).toEqual([]);
  });

  it('leaves no descriptor open when a fifo is missing', () => {
    const before = descriptors();
    const client = openSync(join(bundle, 'out'), O_RDONLY | O_NONBLOCK);
    const path = join(bundle, 'missing');
    expect(
      () =>
        new TerminalIo(
          { stdin: { kind: 'fifo', path }, stdout: { kind: 'fifo', path: join(bundle, 'out') } },
          bundle,
          kernel,
        ),
    ).toThrow(expect.objectContaining({ code: Code.notFound }));
    closeSync(client);
    expect(descriptors()).toBe(before);
    expect(sockets()).toEqual([]);
  });
});
