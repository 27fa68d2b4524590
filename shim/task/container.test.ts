import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { ContainerCgroup } from '../cgroup/container-cgroup.ts';
import { ContainerBed, ownPids, rootfs, settle } from './container.test-helper.ts';

let bed: ContainerBed;
beforeEach(async () => {
  bed = await ContainerBed.make();
});
afterEach(() => bed.remove());

describe('a cold container', () => {
  it('goes from create to delete', async () => {
    const container = bed.newContainer();
    await container.create({ kind: 'cold', rootfs: rootfs('o') });
    expect(bed.kernel.mounted).toEqual([{ source: 'o', target: join(bed.bundle, 'rootfs') }]);
    expect(await container.start()).toBe(100);
    expect(container.init.state.kind).toBe('running');
    await expect(container.delete()).rejects.toMatchObject({
      code: Code.unknown,
      message: 'cannot delete a running process',
    });
    bed.processes.end(100, 7, 9n);
    expect(await container.init.exited).toEqual({ status: 7, at: 9n });
    expect(await container.delete()).toEqual({ status: 7, at: 9n });
    expect(bed.bus.said).toEqual(['start', 'exit c 7', 'delete']);
    expect(bed.program.calls).toEqual(['create c', 'start c', 'delete c']);
    await expect(container.delete()).rejects.toMatchObject({ code: Code.notFound });
  });

  it('reports an exit that comes before Start answered after the start', async () => {
    const container = bed.newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    bed.program.hooks.set('start', async () => {
      bed.processes.end(100, 1);
      await settle();
      expect(bed.bus.said).toEqual([]);
    });
    await container.start();
    await settle();
    expect(bed.bus.said).toEqual(['start', 'exit c 1']);
    expect(container.init.state).toMatchObject({ kind: 'stopped' });
    await container.delete();
  });

  it('leaves nothing when runc cannot make it', async () => {
    bed.program.failures.set('create', 'no such program');
    const container = bed.newContainer();
    await expect(container.create({ kind: 'cold', rootfs: rootfs('o') })).rejects.toMatchObject({
      message: 'OCI runtime create failed: no such program',
    });
    expect(bed.program.calls).toEqual(['create c', 'delete --force c']);
  });

  it('leaves nothing when its root file system cannot be mounted', async () => {
    bed.kernel.mountFailure = 'ENODEV';
    await expect(bed.newContainer().create({ kind: 'cold', rootfs: rootfs('o') })).rejects.toThrow(/ENODEV/);
    expect(bed.program.calls).toEqual([]);
    bed.kernel.mountFailure = undefined;
  });

  it('kills what shares its PID namespace with others before it reports the exit', async () => {
    const container = bed.newContainer({ linux: { namespaces: [{ type: 'pid', path: '/proc/1/ns/pid' }] } });
    await container.create({ kind: 'cold', rootfs: [] });
    await container.start();
    bed.program.hooks.set('kill', () => expect(bed.bus.said).toEqual(['start']));
    bed.processes.end(100, 0);
    await container.init.exited;
    expect(bed.program.calls.at(-1)).toBe('kill --all c 9');
    await container.delete();
  });

  it('is deleted only when the signal that ended it is answered', async () => {
    const container = bed.newContainer();
    await container.create({ kind: 'cold', rootfs: rootfs('o') });
    await container.start();
    const slow = Promise.withResolvers<void>();
    bed.program.hooks.set('kill', () => slow.promise);
    const told: string[] = [];
    const killed = container.kill(9, false).then(() => told.push('kill'));
    bed.processes.end(100, 137);
    await container.init.exited;
    const deleted = container.delete().then(() => told.push('delete'));
    await settle();
    expect(bed.program.calls).toEqual(['create c', 'start c', 'kill c 9']);
    slow.resolve();
    await Promise.all([killed, deleted]);
    expect(told).toEqual(['kill', 'delete']);
  });

  it.each([
    { ...{ spec: ownPids, ends: true }, code: Code.notFound },
    { ...{ spec: ownPids, ends: false }, code: Code.unknown },
    // What else runs there may not have got the signal.
    { ...{ spec: {}, ends: true }, code: Code.unknown },
  ])('answers $code to a signal that runc could not send ($ends: it ended meanwhile)', async (given) => {
    const container = bed.newContainer(given.spec);
    await container.create({ kind: 'cold', rootfs: [] });
    await container.start();
    bed.program.hooks.set('kill', async () => {
      bed.program.hooks.delete('kill');
      if (given.ends) {
        bed.processes.end(100, 0);
        await container.init.exited;
      }
      bed.program.failures.set('kill', 'reading its status: no such device');
    });
    await expect(container.kill(15, false)).rejects.toMatchObject({ code: given.code });
  });

  it('deletes an init that was never started once its end is seen', async () => {
    const container = bed.newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    bed.program.hooks.set('delete', () => bed.processes.end(100, 137));
    expect(await container.delete()).toMatchObject({ status: 137 });
    expect(bed.bus.said).toEqual(['exit c 137', 'delete']);
  });
});

describe('resources', () => {
  let memoryEvents: (error: Error | null, text?: string) => void;
  let watches: number;
  /** A v2 cgroup whose control files lie in the bundle. */
  const ownCgroup = () =>
    new ContainerCgroup(
      { version: 'v2', dir: bed.bundle, mount: '/' },
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
  const kills = (count: number) => writeFile(join(bed.bundle, 'memory.events'), `oom_kill ${count}\n`);
  beforeEach(() => {
    watches = 0;
  });

  it('that ran out are told before the exit, also when the kernel tells late, and once', async () => {
    await kills(0);
    bed.cgroups.next = ownCgroup();
    const container = bed.newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    await container.start();
    memoryEvents(null, 'oom_kill 1\n');
    await kills(2);
    bed.processes.end(100, 137);
    await container.init.exited;
    memoryEvents(null, 'oom_kill 2\n');
    expect(bed.bus.said).toEqual(['start', 'oom', 'oom', 'exit c 137']);
    expect(watches).toBe(1);
    await container.delete();
    expect(watches).toBe(0);
  });

  const limits = Buffer.from('{"memory":{"limit":1}}');

  it('change while it is created, runs or is paused, and not later', async () => {
    const container = bed.newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    await container.update(limits);
    await container.start();
    await container.update(limits);
    await container.pause();
    await container.update(limits);
    expect(bed.program.inputs).toEqual(Array(3).fill(String(limits)));
    bed.program.failures.set('update', 'unable to set memory limit');
    await expect(container.update(limits)).rejects.toThrow(
      'OCI runtime update failed: unable to set memory limit',
    );
    bed.processes.end(100, 0);
    await container.init.exited;
    await expect(container.update(limits)).rejects.toThrow('cannot update a stopped container');
    await container.delete();
  });

  it('are counted in the cgroup that is found at create', async () => {
    bed.cgroups.next = ownCgroup();
    const container = bed.newContainer({ linux: { ...ownPids.linux, cgroupsPath: '/k/c' } });
    await container.create({ kind: 'cold', rootfs: [] });
    expect(bed.cgroups.found).toEqual([{ pid: 100, cgroupsPath: '/k/c' }]);
    await writeFile(join(bed.bundle, 'cgroup.procs'), '100\n107\n');
    expect(await container.pids()).toEqual([100, 107]);
    // Where that says nothing runc may know more.
    await rm(join(bed.bundle, 'cgroup.procs'));
    await expect(container.stats()).rejects.toMatchObject({
      code: Code.notFound,
      message: 'cgroup does not exist',
    });
    expect(await container.pids()).toEqual([100]);
    expect(bed.program.calls).toEqual(['create c', 'ps c']);
    bed.processes.end(100, 0);
    await container.init.exited;
    expect(await container.pids()).toEqual([100]);
    await container.delete();
  });
});

describe('pause, resume and checkpoint', () => {
  it('know which states they may come from', async () => {
    const container = bed.newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    await expect(container.pause()).rejects.toThrow('cannot pause a created container');
    await container.start();
    await expect(container.resume()).rejects.toThrow('cannot resume a running container');
    await container.pause();
    await container.resume();
    await container.pause();
    bed.processes.end(100, 137);
    await container.init.exited;
    expect(bed.program.calls.slice(2)).toEqual(['pause c', 'resume c', 'pause c', 'resume c']);
    expect(bed.bus.said).toEqual(['start', 'paused', 'resumed', 'paused', 'exit c 137']);
    await container.delete();
  });

  it('dump with the container going on, and say what failed', async () => {
    const container = bed.newContainer();
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
    const path = join(bed.bundle, 'dump');
    await expect(container.checkpoint(path, options)).rejects.toThrow(
      'cannot checkpoint a created container',
    );
    await container.start();
    await expect(container.checkpoint('', options)).rejects.toMatchObject({ code: Code.invalidArgument });
    await container.checkpoint(path, options);
    expect(existsSync(path)).toBe(true);
    bed.program.failures.set('checkpoint', 'criu failed: type NOTIFY');
    await expect(container.checkpoint(path, options)).rejects.toThrow('type NOTIFY');
    expect(container.init.state.kind).toBe('running');
    bed.processes.end(100, 0);
    await container.init.exited;
    await container.delete();
  });
});
