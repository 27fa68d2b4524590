import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PipeIo } from './pipe-io.ts';
import type { PipeCalls } from './process-io.ts';
import type { StreamTarget } from './target.ts';

const nobody = { uid: 0, gid: 0 };
const { O_RDONLY, O_NONBLOCK, O_RDWR } = constants;

/** Relays that move what is there when they end, and own their descriptors as the addon's do. */
class FakeRelays implements PipeCalls {
  readonly #relays = new Map<number, { from: number; to: number; done: (error: Error | null) => void }>();
  readonly owners: [number, number][] = [];
  #next = 1;

  pipe(): [number, number] {
    // A descriptor pair that behaves enough like a pipe: both ends of a fifo.
    const path = join(dir, `pipe-${this.#next}-${this.owners.length}-${readdirSync(dir).length}`);
    execFileSync('mkfifo', [path]);
    return [openSync(path, O_RDONLY | O_NONBLOCK), openSync(path, O_RDWR)];
  }
  fchown(_fd: number, uid: number, gid: number): void {
    this.owners.push([uid, gid]);
  }
  relayStart(from: number, to: number, done: (error: Error | null) => void): number {
    this.#relays.set(this.#next, { from, to, done });
    return this.#next++;
  }
  relayDrain(): void {}
  relayStop(id: number): void {
    const relay = this.#relays.get(id);
    if (!relay) return;
    this.#relays.delete(id);
    const buffer = Buffer.alloc(4096);
    try {
      const length = readSync(relay.from, buffer);
      writeSync(relay.to, buffer, 0, length);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    closeSync(relay.from);
    closeSync(relay.to);
    relay.done(null);
  }
  get running(): number {
    return this.#relays.size;
  }
}

let dir: string;
let relays: FakeRelays;
const targets = (paths: { stdin?: string; stdout?: string; stderr?: string } = {}) => {
  const fifo = (path?: string): StreamTarget => (path ? { kind: 'fifo', path } : { kind: 'none' });
  return { stdin: fifo(paths.stdin), stdout: fifo(paths.stdout), stderr: fifo(paths.stderr) };
};
const descriptors = () => readdirSync('/proc/self/fd').length;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'io-'));
  relays = new FakeRelays();
});
afterEach(() => rm(dir, { recursive: true }));

function fifo(name: string): string {
  const path = join(dir, name);
  execFileSync('mkfifo', [path]);
  return path;
}

describe('PipeIo', () => {
  it('gives a process without streams /dev/null', async () => {
    const io = new PipeIo(targets(), nobody, relays);
    expect(io.childStdio).toEqual(['ignore', 'ignore', 'ignore']);
    await io.started();
    expect(relays.running).toBe(0);
    await io.close();
  });

  it('moves output from the process to the client and closes everything', async () => {
    const stdout = fifo('out');
    const before = descriptors();
    const client = openSync(stdout, O_RDONLY | O_NONBLOCK);
    const io = new PipeIo(targets({ stdout }), nobody, relays);
    const [stdin, out, err] = io.childStdio;
    expect([stdin, err]).toEqual(['ignore', 'ignore']);
    writeSync(out as number, 'hello');
    await io.started();
    expect(relays.running).toBe(1);
    await io.finish(10);
    const buffer = Buffer.alloc(16);
    expect(buffer.subarray(0, readSync(client, buffer)).toString()).toBe('hello');
    closeSync(client);
    await io.close();
    expect(descriptors()).toBe(before);
  });

  it('holds the input open until it is told that it ended', async () => {
    const stdin = fifo('in');
    const before = descriptors();
    const io = new PipeIo(targets({ stdin }), nobody, relays);
    await io.started();
    const open = descriptors();
    io.closeStdin();
    io.closeStdin();
    expect(descriptors()).toBe(open - 1);
    await io.close();
    expect(descriptors()).toBe(before);
  });

  it('gives the pipes to the user that the options name', async () => {
    const io = new PipeIo(targets({ stdout: fifo('out') }), { uid: 5, gid: 6 }, relays);
    expect(relays.owners).toEqual([[5, 6]]);
    await io.close();
  });

  it('leaves no descriptor open when a fifo is missing, or when it was never started', async () => {
    const stdout = fifo('out');
    const before = descriptors();
    expect(() => new PipeIo(targets({ stdout, stderr: join(dir, 'missing') }), nobody, relays)).toThrow(
      /opening .*missing failed: no such file or directory/,
    );
    const io = new PipeIo(targets({ stdout }), nobody, relays);
    await io.close();
    expect(descriptors()).toBe(before);
  });
});
