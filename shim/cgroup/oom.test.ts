import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type OomCalls, type OomWatch, watchOom } from './oom.ts';

let dir: string;
let told: number;
let watch: OomWatch | undefined;
/** The kernel's side: the test says when a file has changed. */
let changed: (error: Error | null, text?: string) => void;
let stopped: number[];
const calls: OomCalls = {
  watchCgroupEvent: (_file, _control, callback) => {
    changed = callback;
    return 1;
  },
  watchFile: (_path, callback) => {
    changed = callback;
    return 2;
  },
  watchStop: (id) => stopped.push(id),
};
const tell = () => {
  told += 1;
};

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'oom-'));
  told = 0;
  stopped = [];
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('on v2', () => {
  const events = (kills: number) => `low 0\nhigh 0\nmax 9\noom 1\noom_kill ${kills}\n`;
  const rewrite = (kills: number) => writeFile(join(dir, 'memory.events'), events(kills));
  const start = () => {
    watch = watchOom({ version: 'v2', dir, mount: '/' }, calls, tell);
  };

  it('tells when the number of kills has grown, and not of other events', async () => {
    await rewrite(2);
    start();
    changed(null, events(2));
    changed(null, events(2).replace('max 9', 'max 10'));
    expect(told).toBe(0);
    changed(null, events(3));
    changed(null, events(3));
    changed(null, events(5));
    expect(told).toBe(2);
    changed(new Error('ENODEV'));
    watch?.close();
    expect([told, stopped]).toEqual([2, [2]]);
  });

  it('does not tell twice of a kill that a look has found before the notification', async () => {
    await rewrite(0);
    start();
    await rewrite(1);
    watch?.check();
    watch?.check();
    changed(null, events(1));
    expect(told).toBe(1);
    await rm(dir, { recursive: true });
    watch?.check();
    expect(told).toBe(1);
  });

  it('is not there without a memory controller', () => {
    start();
    expect(watch).toBeUndefined();
  });
});

describe('on v1', () => {
  const control = (kills: number) =>
    writeFile(join(dir, 'memory.oom_control'), `oom_kill_disable 0\nunder_oom 0\noom_kill ${kills}\n`);
  const start = () => {
    watch = watchOom({ version: 'v1', dirs: new Map([['memory', dir]]) }, calls, tell);
  };

  it('tells of each kill once, however many events it makes, and when it is counted', async () => {
    await control(0);
    start();
    changed(null);
    expect(told).toBe(0);
    changed(null);
    await control(1);
    await vi.waitFor(() => expect(told).toBe(1));
    changed(null);
    watch?.check();
    expect(told).toBe(1);
    await control(3);
    changed(null);
    expect(told).toBe(3);
    await rm(dir, { recursive: true });
    changed(null);
    watch?.close();
    expect([told, stopped]).toEqual([3, [1]]);
  });

  it('tells of each event on a kernel that does not count, but not of the one that says that the cgroup is gone', async () => {
    await writeFile(join(dir, 'memory.oom_control'), 'oom_kill_disable 0\nunder_oom 0\n');
    start();
    changed(null);
    changed(null);
    watch?.check();
    await rm(dir, { recursive: true });
    changed(null);
    watch?.close();
    expect(told).toBe(2);
  });

  it('finds a kill whose event was lost', async () => {
    await control(4);
    start();
    watch?.check();
    expect(told).toBe(0);
    await control(5);
    watch?.check();
    watch?.check();
    expect(told).toBe(1);
  });

  it('is not there without a memory controller', () => {
    expect(watchOom({ version: 'v1', dirs: new Map() }, calls, tell)).toBeUndefined();
  });
});
