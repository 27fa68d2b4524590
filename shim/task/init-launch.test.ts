import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { ContainerBed, rootfs, settle } from './container.test-helper.ts';
import type { RestoreOutcome, RestorePlan } from './start-plan.ts';

let bed: ContainerBed;
beforeEach(async () => {
  bed = await ContainerBed.make();
});
afterEach(() => bed.remove());

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
    const container = bed.newContainer();
    await container.create(plan(async () => ({ kind: 'restored', pid: 77 })));
    expect(container.init.pid).toBe(0);
    expect(bed.cgroups.found).toEqual([]);
    expect(await container.pids()).toEqual([0]);
    expect(bed.program.calls).toEqual([]);
    expect(await container.start()).toBe(77);
    expect(bed.cgroups.found).toEqual([{ pid: 77, cgroupsPath: undefined }]);
    expect(bed.program.calls).toEqual([]);
    bed.processes.end(77, 3);
    await container.init.exited;
    await container.delete();
    expect(bed.bus.said).toEqual(['start', 'exit c 3', 'delete']);
    expect(released).toBe(1);
  });

  it('that fails becomes a cold start on the other mounts, in the same call', async () => {
    const container = bed.newContainer();
    await container.create(
      plan(async () => {
        expect(bed.kernel.mounted.map((mount) => mount.source)).toEqual(['diff+base']);
        return failed;
      }),
    );
    expect(await container.start()).toBe(100);
    expect(bed.kernel.mounted.map((mount) => mount.source)).toEqual(['base']);
    expect(bed.program.calls).toEqual(['create c', 'start c']);
    expect(bed.bus.said).toEqual(['start']);
    bed.processes.end(100, 0);
    await container.init.exited;
    await container.delete();
    expect(released).toBe(1);
  });

  it('that fails is an error where the pod requires it', async () => {
    const container = bed.newContainer();
    await container.create(plan(async () => failed, true));
    await expect(container.start()).rejects.toMatchObject({
      code: Code.failedPrecondition,
      message: 'OCI runtime restore failed: bad chunk',
    });
    expect(bed.program.calls).toEqual([]);
    await expect(container.start()).rejects.toThrow('cannot start a container whose restore has failed');
    await container.delete();
    expect(released).toBe(1);
  });

  it('can be called off by a signal before Start', async () => {
    const container = bed.newContainer();
    await container.create(plan(async () => ({ kind: 'restored', pid: 77 })));
    await container.kill(15, false);
    expect(await container.init.exited).toEqual({ status: 143, at: 5n });
    await expect(container.start()).rejects.toMatchObject({ code: Code.failedPrecondition });
    await container.delete();
    expect(bed.bus.said).toEqual(['exit c 143', 'delete']);
    expect(released).toBe(1);
  });

  it('lets a signal wait until it is known what became of it', async () => {
    const container = bed.newContainer();
    const restored = Promise.withResolvers<RestoreOutcome>();
    await container.create(plan(() => restored.promise));
    const started = container.start();
    const killed = container.kill(9, false);
    await settle();
    expect(bed.program.calls).toEqual([]);
    restored.resolve({ kind: 'restored', pid: 77 });
    await started;
    await killed;
    expect(bed.program.calls).toEqual(['kill c 9']);
    bed.processes.end(77, 137);
    await container.init.exited;
    await container.delete();
  });

  it('whose cold start fails too leaves nothing in runc', async () => {
    const container = bed.newContainer();
    await container.create(plan(async () => failed));
    bed.program.failures.set('create', 'no space');
    await expect(container.start()).rejects.toThrow('no space');
    expect(bed.program.calls).toEqual(['create c', 'delete --force c']);
    await container.delete();
    expect(released).toBe(1);
  });
});
