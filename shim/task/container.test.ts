import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { ContainerCgroup } from '../cgroup/container-cgroup.ts';
import { Runc } from '../runc/runc.ts';
import { Container } from './container.ts';
import { FakeBus, FakeCgroups, FakeKernel, FakeProcesses, FakeRunc, silent } from './fakes.ts';
import type { OciSpec } from './oci-spec.ts';
import { defaultRuncOptions } from './options.ts';
import { plainDump, type RestoreOutcome, type RestorePlan } from './start-plan.ts';

let bundle: string;
let program: FakeRunc;
let processes: FakeProcesses;
let kernel: FakeKernel;
let bus: FakeBus;
let cgroups: FakeCgroups;

const rootfs = (source: string) => [{ type: 'overlay', source, target: '', options: ['lowerdir=/l'] }];
const ownPids: OciSpec = { linux: { namespaces: [{ type: 'pid' }] } };
/** Lets everything that is ready run. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

function newContainer(spec: OciSpec = ownPids): Container {
  const runc = new Runc(
    { binary: 'runc', root: '/r', systemdCgroup: false, env: {}, logFile: join(bundle, 'log.json') },
    program,
  );
  return new Container(
    {
      id: 'c',
      namespace: 'default',
      bundle,
      spec,
      options: defaultRuncOptions,
      runc,
      stdio: { stdin: '', stdout: '', stderr: '', terminal: false },
    },
    {
      calls: kernel,
      watcher: processes,
      publish: bus.publish,
      prepareDump: plainDump,
      cgroups,
      now: () => 5n,
      log: silent,
    },
  );
}

beforeEach(async () => {
  bundle = await mkdtemp(join(tmpdir(), 'container-'));
  program = new FakeRunc();
  processes = new FakeProcesses();
  kernel = new FakeKernel(() => {
    throw new Error('No pipes without stdio');
  });
  bus = new FakeBus();
  cgroups = new FakeCgroups();
});
afterEach(async () => {
  expect(kernel.mounted).toEqual([]);
  await rm(bundle, { recursive: true });
});

describe('a cold container', () => {
  it('goes from create to delete', async () => {
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: rootfs('o') });
    expect(kernel.mounted).toEqual([{ source: 'o', target: join(bundle, 'rootfs') }]);
    expect(await container.start()).toBe(100);
    expect(container.init.state.kind).toBe('running');
    await expect(container.delete()).rejects.toMatchObject({
      code: Code.unknown,
      message: 'cannot delete a running process',
    });
    processes.end(100, 7, 9n);
    expect(await container.init.exited).toEqual({ status: 7, at: 9n });
    expect(await container.delete()).toEqual({ status: 7, at: 9n });
    expect(bus.said).toEqual(['start', 'exit c 7', 'delete']);
    expect(program.calls).toEqual(['create c', 'start c', 'delete c']);
    await expect(container.delete()).rejects.toMatchObject({ code: Code.notFound });
  });

  it('reports an exit that comes before Start answered after the start', async () => {
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    program.hooks.set('start', async () => {
      processes.end(100, 1);
      await settle();
      expect(bus.said).toEqual([]);
    });
    await container.start();
    await settle();
    expect(bus.said).toEqual(['start', 'exit c 1']);
    expect(container.init.state).toMatchObject({ kind: 'stopped' });
    await container.delete();
  });

  it('leaves nothing when runc cannot make it', async () => {
    program.failures.set('create', 'no such program');
    const container = newContainer();
    await expect(container.create({ kind: 'cold', rootfs: rootfs('o') })).rejects.toMatchObject({
      message: 'OCI runtime create failed: no such program',
    });
    expect(program.calls).toEqual(['create c', 'delete --force c']);
  });

  it('leaves nothing when its root file system cannot be mounted', async () => {
    kernel.mountFailure = 'ENODEV';
    await expect(newContainer().create({ kind: 'cold', rootfs: rootfs('o') })).rejects.toThrow(/ENODEV/);
    expect(program.calls).toEqual([]);
    kernel.mountFailure = undefined;
  });

  it('kills what shares its PID namespace with others before it reports the exit', async () => {
    const container = newContainer({ linux: { namespaces: [{ type: 'pid', path: '/proc/1/ns/pid' }] } });
    await container.create({ kind: 'cold', rootfs: [] });
    await container.start();
    program.hooks.set('kill', () => expect(bus.said).toEqual(['start']));
    processes.end(100, 0);
    await container.init.exited;
    expect(program.calls.at(-1)).toBe('kill --all c 9');
    await container.delete();
  });

  it('is deleted only when the signal that ended it is answered', async () => {
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: rootfs('o') });
    await container.start();
    const slow = Promise.withResolvers<void>();
    program.hooks.set('kill', () => slow.promise);
    const told: string[] = [];
    const killed = container.kill(9, false).then(() => told.push('kill'));
    processes.end(100, 137);
    await container.init.exited;
    const deleted = container.delete().then(() => told.push('delete'));
    await settle();
    expect(program.calls).toEqual(['create c', 'start c', 'kill c 9']);
    slow.resolve();
    await Promise.all([killed, deleted]);
    expect(told).toEqual(['kill', 'delete']);
  });

  it('deletes an init that was never started once its end is seen', async () => {
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    program.hooks.set('delete', () => processes.end(100, 137));
    expect(await container.delete()).toMatchObject({ status: 137 });
    expect(bus.said).toEqual(['exit c 137', 'delete']);
  });
});

describe('resources', () => {
  let memoryEvents: (error: Error | null, text?: string) => void;
  let watches: number;
  /** A v2 cgroup whose control files lie in the bundle. */
  const ownCgroup = () =>
    new ContainerCgroup(
      { version: 'v2', dir: bundle, mount: '/' },
      {
        readFiles: async (paths) => paths.map(() => -2),
        watchCgroupEvent: () => 0,
        watchFile: (_, changed) => {
          memoryEvents = changed;
          watches += 1;
          return 1;
        },
        watchStop: () => {
          watches -= 1;
        },
      },
    );
  const kills = (count: number) => writeFile(join(bundle, 'memory.events'), `oom_kill ${count}\n`);
  beforeEach(() => {
    watches = 0;
  });

  it('that ran out are told before the exit, also when the kernel tells late, and once', async () => {
    await kills(0);
    cgroups.next = ownCgroup();
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    await container.start();
    memoryEvents(null, 'oom_kill 1\n');
    await kills(2);
    processes.end(100, 137);
    await container.init.exited;
    memoryEvents(null, 'oom_kill 2\n');
    expect(bus.said).toEqual(['start', 'oom', 'oom', 'exit c 137']);
    expect(watches).toBe(1);
    await container.delete();
    expect(watches).toBe(0);
  });

  const limits = Buffer.from('{"memory":{"limit":1}}');

  it('change while it is created, runs or is paused, and not later', async () => {
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    await container.update(limits);
    await container.start();
    await container.update(limits);
    await container.pause();
    await container.update(limits);
    expect(program.inputs).toEqual(Array(3).fill(String(limits)));
    program.failures.set('update', 'unable to set memory limit');
    await expect(container.update(limits)).rejects.toThrow(
      'OCI runtime update failed: unable to set memory limit',
    );
    processes.end(100, 0);
    await container.init.exited;
    await expect(container.update(limits)).rejects.toThrow('cannot update a stopped container');
    await container.delete();
  });

  it('are counted in the cgroup that is found at create', async () => {
    cgroups.next = ownCgroup();
    const container = newContainer({ linux: { ...ownPids.linux, cgroupsPath: '/k/c' } });
    await container.create({ kind: 'cold', rootfs: [] });
    expect(cgroups.found).toEqual([{ pid: 100, cgroupsPath: '/k/c' }]);
    await writeFile(join(bundle, 'cgroup.procs'), '100\n107\n');
    expect(await container.pids()).toEqual([100, 107]);
    // Where that says nothing runc may know more.
    await rm(join(bundle, 'cgroup.procs'));
    await expect(container.stats()).rejects.toMatchObject({
      code: Code.notFound,
      message: 'cgroup does not exist',
    });
    expect(await container.pids()).toEqual([100]);
    expect(program.calls).toEqual(['create c', 'ps c']);
    processes.end(100, 0);
    await container.init.exited;
    expect(await container.pids()).toEqual([100]);
    await container.delete();
  });
});

describe('execs', () => {
  async function running(): Promise<Container> {
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    await container.start();
    return container;
  }
  const stdio = { stdin: '', stdout: '', stderr: '', terminal: false };
  const spec = Buffer.from('{"args":["true"]}');

  it('are reported before the init that took them along', async () => {
    const container = await running();
    container.execs.add('e', spec, stdio);
    expect(await container.execs.start('e')).toBe(101);
    processes.end(100, 0);
    await settle();
    expect(bus.said).toEqual(['start', 'exec-added', 'exec-started']);
    processes.end(101, 137);
    await container.init.exited;
    expect(bus.said.slice(3)).toEqual(['exit e 137', 'exit c 0']);
    await expect(container.execs.start('e')).rejects.toMatchObject({ code: Code.failedPrecondition });
    expect(await container.execs.delete('e')).toMatchObject({ pid: 101, exit: { status: 137 } });
    expect(existsSync(join(bundle, 'e.pid'))).toBe(false);
    await container.delete();
  });

  it('that are just being started hold the init’s exit back too', async () => {
    const container = await running();
    container.execs.add('e', spec, stdio);
    program.failures.set('exec', 'cannot exec in a stopped container');
    program.hooks.set('exec', async () => {
      processes.end(100, 0);
      await settle();
      expect(bus.said).toEqual(['start', 'exec-added']);
    });
    await expect(container.execs.start('e')).rejects.toThrow('cannot exec in a stopped container');
    await container.init.exited;
    expect(bus.said).toEqual(['start', 'exec-added', 'exit c 0']);
    await container.delete();
  });

  it('that fail to start are over for whoever waits for them', async () => {
    const container = await running();
    container.execs.add('e', spec, stdio);
    const waiting = container.process('e').exited;
    program.failures.set('exec', 'no such file or directory');
    await expect(container.execs.start('e')).rejects.toThrow('no such file or directory');
    expect(await waiting).toMatchObject({ status: 255 });
    expect(bus.said).toEqual(['start', 'exec-added']);
    await container.execs.delete('e');
    expect(() => container.process('e')).toThrow(expect.objectContaining({ code: Code.notFound }));
  });

  it('run in a container that is created, and are refused where one is paused or over', async () => {
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    container.execs.add('early', spec, stdio);
    expect(await container.execs.start('early')).toBe(101);
    await container.start();
    await container.pause();
    expect(() => container.execs.add('e', spec, stdio)).toThrow('cannot exec in a paused state');
    await container.resume();
    processes.end(101, 0);
    processes.end(100, 0);
    await container.init.exited;
    expect(() => container.execs.add('e', spec, stdio)).toThrow('cannot exec in a stopped state');
    expect(bus.said.filter((event) => event.startsWith('exec-added'))).toHaveLength(1);
  });

  it('need the JSON of a process', async () => {
    const container = await running();
    for (const text of ['', 'no JSON', 'null', '"text"'])
      expect(() => container.execs.add('e', Buffer.from(text), stdio), text).toThrow(
        expect.objectContaining({ code: Code.invalidArgument }),
      );
  });

  it('have ids of their own, which are safe as file names', async () => {
    const container = await running();
    container.execs.add('e', spec, stdio);
    expect(() => container.execs.add('e', spec, stdio)).toThrow(
      expect.objectContaining({ code: Code.alreadyExists }),
    );
    expect(() => container.execs.add('c', spec, stdio)).toThrow(
      expect.objectContaining({ code: Code.alreadyExists }),
    );
    expect(() => container.execs.add('../e', spec, stdio)).toThrow(
      expect.objectContaining({ code: Code.invalidArgument }),
    );
    expect(() => container.execs.kill('e', 9)).toThrow('process not created');
    expect(() => container.execs.kill('x', 9)).toThrow(expect.objectContaining({ code: Code.notFound }));
    processes.end(100, 0);
    await container.init.exited;
    await container.delete();
  });
});

describe('a restore', () => {
  let released: number;
  const plan = (restore: RestorePlan['restore'], required = false): RestorePlan => ({
    kind: 'restore',
    rootfs: rootfs('diff+base'),
    required,
    restore,
    release: async () => {
      released += 1;
    },
  });
  const failed: RestoreOutcome = { kind: 'failed', reason: 'bad chunk', rootfs: rootfs('base') };
  beforeEach(() => {
    released = 0;
  });

  it('takes place in Start, with pid 0 until then, and goes on like any container', async () => {
    const container = newContainer();
    await container.create(plan(async () => ({ kind: 'restored', pid: 77 })));
    expect(container.init.pid).toBe(0);
    expect(cgroups.found).toEqual([]);
    expect(await container.pids()).toEqual([0]);
    expect(program.calls).toEqual([]);
    expect(await container.start()).toBe(77);
    expect(cgroups.found).toEqual([{ pid: 77, cgroupsPath: undefined }]);
    expect(program.calls).toEqual([]);
    processes.end(77, 3);
    await container.init.exited;
    await container.delete();
    expect(bus.said).toEqual(['start', 'exit c 3', 'delete']);
    expect(released).toBe(1);
  });

  it('that fails becomes a cold start on the other mounts, in the same call', async () => {
    const container = newContainer();
    await container.create(
      plan(async () => {
        expect(kernel.mounted.map((mount) => mount.source)).toEqual(['diff+base']);
        return failed;
      }),
    );
    expect(await container.start()).toBe(100);
    expect(kernel.mounted.map((mount) => mount.source)).toEqual(['base']);
    expect(program.calls).toEqual(['create c', 'start c']);
    expect(bus.said).toEqual(['start']);
    processes.end(100, 0);
    await container.init.exited;
    await container.delete();
    expect(released).toBe(1);
  });

  it('that fails is an error where the pod requires it', async () => {
    const container = newContainer();
    await container.create(plan(async () => failed, true));
    await expect(container.start()).rejects.toMatchObject({
      code: Code.failedPrecondition,
      message: 'OCI runtime restore failed: bad chunk',
    });
    expect(program.calls).toEqual([]);
    await expect(container.start()).rejects.toThrow('cannot start a container whose restore has failed');
    await container.delete();
    expect(released).toBe(1);
  });

  it('can be called off by a signal before Start', async () => {
    const container = newContainer();
    await container.create(plan(async () => ({ kind: 'restored', pid: 77 })));
    await container.kill(15, false);
    expect(await container.init.exited).toEqual({ status: 143, at: 5n });
    await expect(container.start()).rejects.toMatchObject({ code: Code.failedPrecondition });
    await container.delete();
    expect(bus.said).toEqual(['exit c 143', 'delete']);
    expect(released).toBe(1);
  });

  it('lets a signal wait until it is known what became of it', async () => {
    const container = newContainer();
    const restored = Promise.withResolvers<RestoreOutcome>();
    await container.create(plan(() => restored.promise));
    const started = container.start();
    const killed = container.kill(9, false);
    await settle();
    expect(program.calls).toEqual([]);
    restored.resolve({ kind: 'restored', pid: 77 });
    await started;
    await killed;
    expect(program.calls).toEqual(['kill c 9']);
    processes.end(77, 137);
    await container.init.exited;
    await container.delete();
  });

  it('whose cold start fails too leaves nothing in runc', async () => {
    const container = newContainer();
    await container.create(plan(async () => failed));
    program.failures.set('create', 'no space');
    await expect(container.start()).rejects.toThrow('no space');
    expect(program.calls).toEqual(['create c', 'delete --force c']);
    await container.delete();
    expect(released).toBe(1);
  });
});

describe('pause, resume and checkpoint', () => {
  it('know which states they may come from', async () => {
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    await expect(container.pause()).rejects.toThrow('cannot pause a created container');
    await container.start();
    await expect(container.resume()).rejects.toThrow('cannot resume a running container');
    await container.pause();
    await container.resume();
    await container.pause();
    processes.end(100, 137);
    await container.init.exited;
    expect(program.calls.slice(2)).toEqual(['pause c', 'resume c', 'pause c', 'resume c']);
    expect(bus.said).toEqual(['start', 'paused', 'resumed', 'paused', 'exit c 137']);
    await container.delete();
  });

  it('dump with the container going on, and say what failed', async () => {
    const container = newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    const options = {
      exit: false,
      openTcp: false,
      externalUnixSockets: false,
      terminal: false,
      fileLocks: false,
      emptyNamespaces: [],
      imagePath: '',
      workPath: '',
      parentPath: '',
    };
    const path = join(bundle, 'dump');
    await expect(container.checkpoint(path, options)).rejects.toThrow(
      'cannot checkpoint a created container',
    );
    await container.start();
    await expect(container.checkpoint('', options)).rejects.toMatchObject({ code: Code.invalidArgument });
    await container.checkpoint(path, options);
    expect(existsSync(path)).toBe(true);
    program.failures.set('checkpoint', 'criu failed: type NOTIFY');
    await expect(container.checkpoint(path, options)).rejects.toThrow('type NOTIFY');
    expect(container.init.state.kind).toBe('running');
    processes.end(100, 0);
    await container.init.exited;
    await container.delete();
  });
});
