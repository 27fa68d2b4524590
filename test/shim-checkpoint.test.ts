/** Checkpoints and restores as containerd asks a shim for them, by our shim and by containerd's own. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { containerd as api } from '../proto/gen/shim.js';
import { processSpec } from './conformance/shim/bundle.ts';
import { type Peer, type PeerName, peer as peerOf } from './conformance/shim/peer.ts';
import { NAMESPACE, Rig, type Task } from './conformance/shim/rig.ts';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  image,
  type Leftovers,
  layer,
  takeStock,
  until,
} from './lib/index.ts';

const OPTIONS = 'containerd.runc.v1.CheckpointOptions';
type DumpOptions = Parameters<typeof api.runc.v1.CheckpointOptions.encode>[0];
const options = (set: DumpOptions) => ({
  type_url: OPTIONS,
  value: api.runc.v1.CheckpointOptions.encode(set).finish(),
});

/**
 * Counts in a shell variable alone: one that started anew begins at 1. It says how far it is only when asked, so that it has
 * no file open while it is dumped.
 */
const COUNTER = [
  'sh',
  '-c',
  'n=0; while :; do n=$((n+1)); [ -f /ask ] && { echo $n >/new; busybox mv /new /count; rm /ask; }; sleep 0.2; done',
];
/** CRIU cannot dump a PID namespace inside the container's. */
const NESTED = ['busybox', 'unshare', '-p', '-f', 'sh', '-c', 'touch /nested; sleep 1000; true'];
const CAPABILITIES = ['CAP_SYS_ADMIN', 'CAP_DAC_OVERRIDE', 'CAP_KILL'];
/** Has a file open that another container's root file system lacks. */
const OPEN_FILE = ['sh', '-c', `echo x >/data; exec 8</data; ${COUNTER[2]}`];
const MEMORY_LIMIT = 64 << 20;
/** CRIU of trixie does not know newer kernels. */
const env = { ...process.env, PATH: `/opt/thaw/current/criu:${process.env['PATH']}` };

describe.each<PeerName>(['stock', 'thaw'])('%s', (name) => {
  let peer: Peer;
  let rig: Rig;
  beforeAll(async () => {
    peer = await peerOf(name);
  });
  beforeEach(async () => {
    rig = await Rig.start(peer);
  });
  afterEach(() => rig.close());

  const create = async (args: readonly string[], checkpoint?: string) => {
    const task = await rig.create({
      args,
      env,
      capabilities: CAPABILITIES,
      resources: { memory: { limit: MEMORY_LIMIT } },
      ...(checkpoint ? { create: { checkpoint } } : {}),
    });
    // containerd makes it, as a link.
    mkdirSync(join(task.bundle, 'work'), { recursive: true });
    return task;
  };
  const start = async (args: readonly string[]) => {
    const task = await create(args);
    await task.client.start();
    return task;
  };
  const images = (name: string) => join(rig.work, name);
  /**
   * Dumps, if need be again: CRIU cannot seize a process that is between vfork and exec or was paused there, and a busy
   * machine makes that time long.
   */
  const dump = async (task: Task, name: string, set: DumpOptions = {}) => {
    for (let tries = 1; ; tries += 1) {
      mkdirSync(images(name));
      try {
        await task.client.checkpoint(images(name), options(set));
        return images(name);
      } catch (error) {
        if (tries === 5) throw error;
        rmSync(images(name), { recursive: true });
        if ((await task.client.status()) !== 'PAUSED') continue;
        await task.client.resume();
        await task.client.pause();
      }
    }
  };
  const count = async (task: Task) => {
    const root = `/proc/${(await task.client.state()).pid}/root`;
    writeFileSync(`${root}/ask`, '');
    await until('an answer', () => !existsSync(`${root}/ask`));
    return Number(readFileSync(`${root}/count`, 'utf8'));
  };
  const countsOn = async (task: Task) => {
    const before = await count(task);
    expect(await count(task)).toBeGreaterThan(before);
  };
  const counting = async (): Promise<Task> => {
    const task = await start(COUNTER);
    await until('a count', async () => (await count(task)) >= 3);
    return task;
  };
  const freezer = (task: Task) =>
    readFileSync(join('/sys/fs/cgroup/freezer', NAMESPACE, task.id, 'freezer.state'), 'utf8').trim();

  it('a container that runs goes on, one that is paused stays paused', async () => {
    const task = await counting();
    await dump(task, 'running');
    expect(await task.client.status()).toBe('RUNNING');
    await countsOn(task);
    await task.client.pause();
    await dump(task, 'paused');
    expect([await task.client.status(), freezer(task)]).toEqual(['PAUSED', 'FROZEN']);
    await task.client.resume();
    await countsOn(task);
    for (const dir of ['running', 'paused'])
      expect(readdirSync(join(rig.work, dir))).toContain('inventory.img');
    await task.removeTold();
    expect(task.events).toEqual(['create', 'start', 'paused', 'resumed', `exit ${task.id} 137`, 'delete']);
  });

  it('a dump that fails says why, keeps its log, and changes nothing', async () => {
    const task = await start(NESTED);
    await until('the namespace', () => existsSync(join(rig.upper(task.id), 'nested')));
    const refused = await task.client.checkpoint(images('refused')).catch((error: Error) => error.message);
    expect(refused).toMatch(/ path= \S+criu-dump\.log/);
    expect(await task.client.status()).toBe('RUNNING');
    await task.client.pause();
    await expect(task.client.checkpoint(images('again'))).rejects.toThrow();
    expect([await task.client.status(), freezer(task)]).toEqual(['PAUSED', 'FROZEN']);
    await task.client.resume();
    if (name === 'thaw') {
      expect(refused).toMatch(/PID namespace/i);
      expect(refused).not.toContain('log file:');
      expect(readFileSync(join(task.bundle, 'criu-dump.log'), 'utf8')).toMatch(/PID namespace/i);
    }
    await task.remove();
  });

  it('options reach CRIU: work path and empty namespaces', async () => {
    const task = await counting();
    const work = join(rig.work, 'work');
    await dump(task, 'first', { workPath: work, emptyNamespaces: ['network'] });
    expect(readdirSync(work)).toContain('dump.log');
    await task.remove();
  });

  it('a container that ends with its dump has exit status 137, and can be deleted', async () => {
    for (const paused of [false, true]) {
      const task = await counting();
      if (paused) await task.client.pause();
      await dump(task, `ended-${paused}`, { exit: true });
      expect(await task.client.wait()).toBe(137);
      await task.until(`exit ${task.id} 137`);
      expect(await task.client.status()).toBe('STOPPED');
      expect((await task.client.delete()).exitStatus).toBe(137);
      await task.shutdown();
    }
  });

  it('restores images that the caller names, at Start', async () => {
    const source = await counting();
    const reached = await count(source);
    const saved = await dump(source, 'images', { exit: true });
    await source.client.wait();
    await source.client.delete();
    await source.shutdown();

    const task = await create(COUNTER, saved);
    expect(task.pid).toBe(0);
    expect(await task.client.state()).toMatchObject({ status: 'CREATED', pid: 0 });
    await expect(task.client.exec('early', { args: ['true'], cwd: '/' })).rejects.toThrow(
      'cannot exec in a created state',
    );
    const pid = await task.client.start();
    expect(await task.client.state()).toMatchObject({ status: 'RUNNING', pid });
    expect(await count(task)).toBeGreaterThan(reached);
    expect([...(await task.client.pids()).keys()]).toContain(pid);
    if (name === 'thaw')
      expect((await task.client.stats()).type_url).toBe('io.containerd.cgroups.v1.Metrics');
    await task.client.pause();
    await task.client.resume();
    await countsOn(task);
    expect(task.events).toEqual(['create', 'start', 'paused', 'resumed']);
    await task.client.exec('hog', processSpec(['tail', '-c', '200000000', '/dev/zero']));
    await task.client.start('hog');
    expect(await task.client.wait('hog')).toBe(137);
    await task.until('exit hog 137');
    if (name === 'thaw')
      expect(task.events.slice(4, 7)).toEqual(['exec-added hog', 'exec-started hog', 'oom']);
    await task.client.delete('hog');
    await task.removeTold();
    expect(task.events.slice(-2)).toEqual([`exit ${task.id} 137`, 'delete']);
    // The images are the caller's.
    expect(readdirSync(saved)).toContain('inventory.img');
  });

  it('a container with a terminal is saved where that is asked for, and gets one again', async () => {
    const make = async (checkpoint?: string) => {
      const stdout = join(rig.work, checkpoint ? 'copy.fifo' : 'source.fifo');
      execFileSync('mkfifo', [stdout]);
      // containerd's own shim waits for a client.
      const client = openSync(stdout, constants.O_RDWR | constants.O_NONBLOCK);
      onTestFinished(() => closeSync(client));
      const task = await rig.create({
        args: COUNTER,
        env,
        terminal: true,
        stdio: { stdout },
        ...(checkpoint ? { create: { checkpoint } } : {}),
      });
      mkdirSync(join(task.bundle, 'work'), { recursive: true });
      await task.client.start();
      return task;
    };
    const source = await make();
    await until('a count', async () => (await count(source)) >= 3);
    const reached = await count(source);
    const saved = await dump(source, 'terminal', { terminal: true, exit: true });
    await source.client.wait();
    await source.client.delete();
    await source.shutdown();
    const task = await make(saved);
    expect(await count(task)).toBeGreaterThan(reached);
    expect((await task.client.state()).terminal).toBe(true);
    await task.client.resizePty(100, 30);
    await task.remove();
  });

  it('a restore that fails is an error that quotes CRIU, leaves nothing, and can be deleted', async () => {
    const source = await start(OPEN_FILE);
    expect(await count(source)).toBeGreaterThan(0);
    const broken = await dump(source, 'broken', { exit: true });
    await source.client.wait();
    await source.client.delete();
    await source.shutdown();

    const task = await create(OPEN_FILE, broken);
    const message = await task.client.start().catch((error: Error) => error.message);
    expect(message).toMatch(/^OCI runtime restore failed: /);
    expect(await task.client.status()).toBe('CREATED');
    if (name === 'thaw') {
      expect(message).toMatch(/data/);
      for (const [file] of String(message).matchAll(/\/\S+\.log\b/g)) expect(existsSync(file)).toBe(true);
      expect(readFileSync(join(task.bundle, 'criu-restore.log'), 'utf8')).toMatch(/data/);
    }
    await task.client.delete();
    await task.shutdown();
    expect(task.events).not.toContain('start');
  });
});

describe('through containerd', () => {
  const IMAGE = 'test.local/busybox:1';
  let containerd: Containerd;
  let before: Leftovers;
  const ctr = (...args: string[]) => containerd.ctr(args);
  beforeAll(async () => {
    containerd = await Containerd.start();
    await containerd.importImage(IMAGE, image([await layer(busybox())], { cmd: ['sh'] }));
  });
  afterAll(() => containerd.stop());
  beforeEach(() => {
    before = takeStock();
  });
  afterEach(async () => {
    await containerd.removeContainers();
    await assertNothingLeft(before, 10_000);
  });

  it('a client that pauses, checkpoints into an image and resumes gets one that can be restored', async () => {
    let asked = 0;
    const countOf = async (id: string) => {
      const script = 'touch /ask; while [ -f /ask ]; do sleep 0.05; done; cat /count';
      asked += 1;
      const exec = ['task', 'exec', '--exec-id', `ask-${asked}`, id];
      return Number((await ctr(...exec, 'sh', '-c', script)).stdout);
    };
    await ctr(
      'run',
      '-d',
      '--null-io',
      '--runtime',
      'io.containerd.runc.thaw.v2',
      IMAGE,
      'source',
      ...COUNTER,
    );
    const reached = await countOf('source');
    const checkpoint = [
      'container',
      'checkpoint',
      '--rw',
      '--image',
      '--task',
      'source',
      'test.local/saved:1',
    ];
    // As above: again if a process was between vfork and exec.
    await until('the checkpoint', async () => Boolean(await ctr(...checkpoint)), 60_000);
    expect((await ctr('task', 'ls')).stdout).toMatch(/source\s+\d+\s+RUNNING/);
    await ctr('task', 'rm', '-f', 'source');
    await ctr('container', 'rm', 'source');
    await ctr('container', 'restore', '--rw', '--live', 'copy', 'test.local/saved:1');
    expect((await ctr('task', 'ls')).stdout).toMatch(/copy\s+\d+\s+RUNNING/);
    expect(await countOf('copy')).toBeGreaterThan(reached);
    expect((await ctr('task', 'metrics', '--format', 'json', 'copy')).stdout).toContain('memory');
  });
});
