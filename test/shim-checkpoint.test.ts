/** Checkpoints and restores as containerd asks a shim for them, by our shim and by containerd's own. */
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
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

/** Counts in a shell variable alone: one that started anew begins at 1. */
const COUNTER = ['sh', '-c', 'n=0; while :; do n=$((n+1)); echo $n >/count; sleep 0.05; done'];
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
  const images = (name: string) => {
    const dir = join(rig.work, name);
    mkdirSync(dir);
    return dir;
  };
  const count = (task: Task) => {
    const file = join(rig.upper(task.id), 'count');
    return existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
  };
  const countsOn = async (task: Task) => {
    const before = count(task);
    await until('the workload to go on', () => count(task) > before);
  };
  const counting = async (): Promise<Task> => {
    const task = await start(COUNTER);
    await until('a count', () => count(task) >= 5);
    return task;
  };
  const freezer = (task: Task) =>
    readFileSync(join('/sys/fs/cgroup/freezer', NAMESPACE, task.id, 'freezer.state'), 'utf8').trim();

  it('a container that runs goes on, one that is paused stays paused', async () => {
    const task = await counting();
    await task.client.checkpoint(images('running'));
    expect(await task.client.status()).toBe('RUNNING');
    await countsOn(task);
    await task.client.pause();
    await task.client.checkpoint(images('paused'));
    expect([await task.client.status(), freezer(task)]).toEqual(['PAUSED', 'FROZEN']);
    await task.client.resume();
    await countsOn(task);
    for (const dir of ['running', 'paused'])
      expect(readdirSync(join(rig.work, dir))).toContain('inventory.img');
    await task.remove();
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
    await task.client.checkpoint(images('first'), options({ workPath: work, emptyNamespaces: ['network'] }));
    expect(readdirSync(work)).toContain('dump.log');
    await task.remove();
  });

  it('a container that ends with its dump has exit status 137, and can be deleted', async () => {
    for (const paused of [false, true]) {
      const task = await counting();
      if (paused) await task.client.pause();
      await task.client.checkpoint(images(`ended-${paused}`), options({ exit: true }));
      expect(await task.client.wait()).toBe(137);
      await task.until(`exit ${task.id} 137`);
      expect(await task.client.status()).toBe('STOPPED');
      expect((await task.client.delete()).exitStatus).toBe(137);
      await task.shutdown();
    }
  });

  it('restores images that the caller names, at Start', async () => {
    const source = await counting();
    const saved = images('images');
    await source.client.checkpoint(saved, options({ exit: true }));
    await source.client.wait();
    const reached = count(source);
    await source.client.delete();
    await source.shutdown();

    const task = await create(COUNTER, saved);
    expect(task.pid).toBe(0);
    expect(await task.client.state()).toMatchObject({ status: 'CREATED', pid: 0 });
    await expect(task.client.exec('early', { args: ['true'], cwd: '/' })).rejects.toThrow(
      'cannot exec in a created state',
    );
    expect(count(task)).toBe(0);
    const pid = await task.client.start();
    expect(await task.client.state()).toMatchObject({ status: 'RUNNING', pid });
    await until('the count to go on from where it was', () => count(task) > 0);
    expect(count(task)).toBeGreaterThanOrEqual(reached);
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
    await task.remove();
    expect(task.events.slice(-2)).toEqual([`exit ${task.id} 137`, 'delete']);
    // The images are the caller's.
    expect(readdirSync(saved)).toContain('inventory.img');
  });

  it('a restore that fails is an error that quotes CRIU, leaves nothing, and can be deleted', async () => {
    const source = await start(OPEN_FILE);
    await until('a count', () => count(source) > 0);
    const broken = images('broken');
    await source.client.checkpoint(broken, options({ exit: true }));
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
    const countOf = async (id: string) =>
      Number(
        (
          await ctr(
            'task',
            'exec',
            '--exec-id',
            `e${performance.now()}`.replace('.', '-'),
            id,
            'cat',
            '/count',
          )
        ).stdout,
      );
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
    const reached = await until('a count', async () => {
      const count = await countOf('source');
      return count >= 5 && count;
    });
    await ctr('container', 'checkpoint', '--rw', '--image', '--task', 'source', 'test.local/saved:1');
    expect((await ctr('task', 'ls')).stdout).toMatch(/source\s+\d+\s+RUNNING/);
    await ctr('task', 'rm', '-f', 'source');
    await ctr('container', 'rm', 'source');
    await ctr('container', 'restore', '--rw', '--live', 'copy', 'test.local/saved:1');
    expect((await ctr('task', 'ls')).stdout).toMatch(/copy\s+\d+\s+RUNNING/);
    expect(await until('the count', async () => (await countOf('copy')) || undefined)).toBeGreaterThanOrEqual(
      reached,
    );
    expect((await ctr('task', 'metrics', '--format', 'json', 'copy')).stdout).toContain('memory');
  });
});
