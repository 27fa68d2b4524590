import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { containerd } from '../../proto/gen/shim.js';
import { Code } from '../../proto/status.ts';
import { Runc } from '../runc/runc.ts';
import { FakeBus, FakeCgroups, FakeKernel, FakeProcesses, FakeRunc, silent, writeBundle } from './fakes.ts';
import { TaskService } from './service.ts';
import { alwaysCold, type PlanInput, plainDump, type StartPlanner } from './start-plan.ts';

const task = containerd.task.v2;
let bundle: string;
let program: FakeRunc;
let processes: FakeProcesses;
let bus: FakeBus;
let service: TaskService;
let shutdowns: number;
let empties: number;
let kernel: FakeKernel;
let planner: StartPlanner;

beforeEach(async () => {
  bundle = await mkdtemp(join(tmpdir(), 'service-'));
  writeBundle(bundle, { linux: { namespaces: [{ type: 'pid' }] } });
  program = new FakeRunc();
  kernel = new FakeKernel(() => {
    throw new Error('No pipes without stdio');
  });
  processes = new FakeProcesses();
  bus = new FakeBus();
  shutdowns = 0;
  empties = 0;
  planner = alwaysCold;
  service = new TaskService({
    namespace: 'default',
    shimPid: 42,
    calls: kernel,
    watcher: processes,
    publish: bus.publish,
    planner: (input) => planner(input),
    prepareDump: plainDump,
    cgroups: new FakeCgroups(),
    now: () => 5n,
    log: silent,
    makeRunc: (_, options) =>
      new Runc(
        {
          binary: options.binaryName || 'runc',
          root: '/r',
          systemdCgroup: false,
          env: {},
          logFile: join(bundle, 'log'),
        },
        program,
      ),
    readConfig: async () => '',
    hasSeccomp: () => true,
    onContainer: () => {},
    onEmpty: () => {
      empties += 1;
    },
    onShutdown: () => {
      shutdowns += 1;
    },
  });
});
afterEach(() => rm(bundle, { recursive: true }));

function call(name: string, payload: Uint8Array, version = 'v2'): Promise<Uint8Array> {
  const handler = service.services()[`containerd.task.${version}.Task`]?.[name];
  if (!handler) throw new Error(`no method ${name}`);
  const signal = new AbortController().signal;
  return handler(payload, { service: '', method: name, metadata: {}, signal });
}
const create = (extra: object = {}) =>
  call('Create', task.CreateTaskRequest.encode({ id: 'c', bundle, ...extra }).finish());
const state = async () =>
  task.StateResponse.decode(await call('State', task.StateRequest.encode({ id: 'c' }).finish()));

describe('TaskService', () => {
  it('has every method in both versions', () => {
    const services = service.services();
    expect(Object.keys(services)).toEqual(['containerd.task.v2.Task', 'containerd.task.v3.Task']);
    const methods = Object.keys(services['containerd.task.v3.Task'] ?? {});
    expect(methods).toEqual(expect.arrayContaining(['Create', 'Start', 'Wait', 'Stats', 'Update']));
  });

  it('answers for a container it does not have as containerd’s own shim does', async () => {
    const request = task.StateRequest.encode({ id: 'c' }).finish();
    for (const name of ['State', 'Start', 'Kill', 'Delete', 'Wait', 'Pids', 'Pause', 'Resume'])
      await expect(call(name, request)).rejects.toMatchObject({
        code: Code.notFound,
        message: 'container not created',
      });
    const { shimPid, taskPid } = task.ConnectResponse.decode(await call('Connect', request));
    expect([shimPid, taskPid]).toEqual([42, 0]);
  });

  it('leads a container through its life', async () => {
    expect(task.CreateTaskResponse.decode(await create()).pid).toBe(100);
    expect(bus.events[0]).toMatchObject({ kind: 'create', containerId: 'c', bundle, pid: 100 });
    expect(await state()).toMatchObject({ id: 'c', bundle, pid: 100, status: 1, exitStatus: 0 });
    expect(String((await state()).exitedAt?.seconds)).toBe('-62135596800');
    await expect(create()).rejects.toMatchObject({ code: Code.alreadyExists });
    await call('Shutdown', new Uint8Array());
    expect(shutdowns).toBe(0);

    await call('Start', task.StartRequest.encode({ id: 'c' }).finish());
    expect((await state()).status).toBe(2);
    const waiting = call('Wait', task.WaitRequest.encode({ id: 'c' }).finish(), 'v3');
    processes.end(100, 9, 3_000_000_004n);
    const exit = task.WaitResponse.decode(await waiting);
    expect([exit.exitStatus, String(exit.exitedAt?.seconds), exit.exitedAt?.nanos]).toEqual([9, '3', 4]);
    expect(await state()).toMatchObject({ status: 3, exitStatus: 9 });

    await call('Delete', task.DeleteRequest.encode({ id: 'c' }).finish());
    await expect(state()).rejects.toMatchObject({ code: Code.notFound });
    expect(empties).toBe(1);
    await call('Shutdown', new Uint8Array());
    expect(shutdowns).toBe(1);
  });

  it('takes a container away again that was given up while it was made', async () => {
    const shutdown = task.ShutdownRequest.encode({ id: 'c' }).finish();
    program.hooks.set('create', async () => {
      await call('Shutdown', shutdown);
      expect(shutdowns).toBe(0);
    });
    await expect(create()).rejects.toMatchObject({ code: Code.aborted });
    processes.end(100, 137);
    await expect(state()).rejects.toMatchObject({ code: Code.notFound });
    expect([shutdowns, bus.events]).toEqual([1, []]);
    // Another container of the pod is none of that Shutdown's business.
    program.hooks.set('create', async () => {
      await call('Shutdown', task.ShutdownRequest.encode({ id: 'other' }).finish());
    });
    await create();
    expect(shutdowns).toBe(1);
  });

  it('makes no process yet where images are to be restored, and lets no exec in', async () => {
    const asked: PlanInput['checkpoint'][] = [];
    planner = async ({ checkpoint, rootfs }) => {
      asked.push(checkpoint);
      const restore = async () => ({ kind: 'restored', pid: 77 }) as const;
      return { kind: 'restore', rootfs, required: true, restore, release: async () => {} };
    };
    const value = containerd.runc.v1.Options.encode({ criuWorkPath: '/w' }).finish();
    const options = { type_url: 'containerd.runc.v1.Options', value };
    const created = await create({ checkpoint: '/images', options });
    expect(task.CreateTaskResponse.decode(created).pid).toBe(0);
    expect(asked).toEqual([{ imagePath: '/images', workPath: '/w' }]);
    expect(bus.events[0]).toMatchObject({ kind: 'create', checkpoint: '/images', pid: 0 });
    const exec = call('Exec', task.ExecProcessRequest.encode({ id: 'c', execId: 'e' }).finish());
    await expect(exec).rejects.toMatchObject({
      code: Code.failedPrecondition,
      message: 'cannot exec in a created state',
    });
    await call('Start', task.StartRequest.encode({ id: 'c' }).finish());
    expect(await state()).toMatchObject({ pid: 77, status: 2 });
  });

  it('has no statistics of a container without a cgroup of its own', async () => {
    await create();
    const stats = call('Stats', task.StatsRequest.encode({ id: 'c' }).finish());
    await expect(stats).rejects.toMatchObject({ code: Code.notFound, message: 'cgroup does not exist' });
  });

  it('updates to resources and refuses what is none', async () => {
    await create();
    const update = (type: string) => {
      const resources = { type_url: `types.containerd.io/opencontainers/runtime-spec/1/${type}`, value };
      return call('Update', task.UpdateTaskRequest.encode({ id: 'c', resources }).finish());
    };
    const value = Buffer.from('{"pids":{"limit":9007199254740993}}');
    await update('LinuxResources');
    expect(program.inputs).toEqual([String(value)]);
    await expect(update('Process')).rejects.toMatchObject({ code: Code.invalidArgument });
    expect(program.calls).toEqual(['create c', 'update c']);
  });

  it('makes a container with a terminal, says so, and sizes it', async () => {
    await create({ terminal: true });
    expect(bus.events[0]).toMatchObject({ kind: 'create', terminal: true });
    expect(await state()).toMatchObject({ terminal: true });
    const resize = (width: number, height: number) =>
      call('ResizePty', task.ResizePtyRequest.encode({ id: 'c', width, height }).finish());
    await resize(120, 40);
    await resize(0, 0);
    expect(kernel.windowSizes).toEqual([
      [120, 40],
      [0, 0],
    ]);
    await call('Delete', task.DeleteRequest.encode({ id: 'c' }).finish());
    expect(kernel.relays.size).toBe(0);
    expect(readdirSync(bundle).filter((name) => name.startsWith('console'))).toEqual([]);
  });

  it('removes a container whose terminal never comes', async () => {
    kernel.master = () => {
      throw new Error('ENOTTY');
    };
    await expect(create({ terminal: true })).rejects.toMatchObject({
      message: 'failed to retrieve console master: ENOTTY',
    });
    expect(program.calls.at(-1)).toBe('delete --force c');
    expect(processes.watched).toEqual([]);
    expect(service.empty).toBe(true);
  });

  it('resizes a process without a terminal by doing nothing', async () => {
    await create();
    expect(await state()).toMatchObject({ terminal: false });
    await call('ResizePty', task.ResizePtyRequest.encode({ id: 'c', width: 1, height: 1 }).finish());
    expect(kernel.windowSizes).toEqual([]);
  });

  it('refuses a bundle that it cannot read, and forgets the container', async () => {
    await expect(create({ bundle: '/nonexistent' })).rejects.toMatchObject({ code: Code.invalidArgument });
    expect(service.empty).toBe(true);
    await create();
  });
});
