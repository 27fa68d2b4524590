/** What the kernel counts and limits of a container. Every case runs against containerd's own shim too. */
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../native/index.ts';
import { containerd as api } from '../proto/gen/shim.js';
import { cgroupMounts, placeOf } from '../shim/cgroup/locate.ts';
import { readStats } from '../shim/cgroup/stats.ts';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  callShim,
  image,
  type Leftovers,
  layer,
  run,
  takeStock,
  until,
  watchEvents,
} from './lib/index.ts';

const IMAGE = 'test.local/busybox:1';
const RESOURCES = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources';
const { UpdateTaskRequest, PidsRequest, PidsResponse, StatsRequest, StatsResponse } = api.task.v2;
const Empty = { decode: () => ({}) };

let containerd: Containerd;
let before: Leftovers;
const ctr = (...args: string[]) => containerd.ctr(args, { allowFailure: true });
const cgroup = (controller: string, id: string, file = '') =>
  join('/sys/fs/cgroup', controller, 'default', id, file);
const read = (controller: string, id: string, file: string) =>
  readFileSync(cgroup(controller, id, file), 'utf8').trim();

const update = (id: string, resources: object | string, type_url = RESOURCES) => {
  const json = typeof resources === 'string' ? resources : JSON.stringify(resources);
  const codecs = { request: UpdateTaskRequest, response: Empty };
  return callShim(containerd, id, 'Update', codecs, {
    id,
    resources: { type_url, value: Buffer.from(json) },
  });
};
const pids = async (id: string) => {
  const { processes } = await callShim(
    containerd,
    id,
    'Pids',
    { request: PidsRequest, response: PidsResponse },
    { id },
  );
  return processes.map(({ pid, info }) => ({
    pid: pid ?? 0,
    exec: info ? api.runc.v1.ProcessDetails.decode(info.value ?? new Uint8Array()).execId : undefined,
  }));
};
/** Decodes by the .proto file. 64-bit values come as text, fields that are 0 not at all. */
async function decodeStats(any: { type_url?: string | null; value?: Uint8Array | null }) {
  const root = new protobuf.Root();
  root.resolvePath = (_, target) => join(import.meta.dirname, '../proto', target);
  await root.load('containerd/cgroups/v1/metrics.proto');
  const type = root.lookupType(any.type_url ?? '');
  return type.toObject(type.decode(any.value ?? new Uint8Array()), { longs: String });
}
const stats = async (id: string) => {
  const codecs = { request: StatsRequest, response: StatsResponse };
  return (await callShim(containerd, id, 'Stats', codecs, { id })).stats ?? {};
};

/** Pid of the shim that serves a container. */
const serverOf = async (id: string) => {
  const codecs = { request: api.task.v2.ConnectRequest, response: api.task.v2.ConnectResponse };
  return (await callShim(containerd, id, 'Connect', codecs, { id })).shimPid;
};
const sorted = (numbers: number[]) => numbers.toSorted((a, b) => a - b);
const runcPs = async (id: string): Promise<number[]> =>
  JSON.parse(
    (await run('runc', ['--root', '/run/containerd/runc/default', 'ps', '--format', 'json', id])).stdout,
  );

beforeAll(async () => {
  containerd = await Containerd.start();
  await containerd.importImage(IMAGE, image([await layer(busybox())], { cmd: ['sh'] }));
});
afterAll(async () => {
  await containerd.stop();
});
beforeEach(() => {
  before = takeStock();
});
afterEach(async () => {
  await containerd.removeContainers();
  await assertNothingLeft(before, 10_000);
});

describe.each([
  ['thaw', 'io.containerd.runc.thaw.v2'],
  ['containerd’s own', 'io.containerd.runc.v2'],
])('under the shim %s', (shim, runtime) => {
  const ctrRun = (options: string[], id: string, ...command: string[]) =>
    ctr('run', '--runtime', runtime, ...options, IMAGE, id, ...command);
  const sleeper = (id: string) => ctrRun(['-d', '--null-io'], id, 'sleep', '1000');

  it('an update reaches the kernel, whether the container runs or is paused', async () => {
    await sleeper('limited');
    await update('limited', { memory: { limit: 64 << 20 }, pids: { limit: 77 }, cpu: { shares: 512 } });
    expect(read('memory', 'limited', 'memory.limit_in_bytes')).toBe(String(64 << 20));
    expect(read('pids', 'limited', 'pids.max')).toBe('77');
    expect(read('cpu', 'limited', 'cpu.shares')).toBe('512');
    await ctr('task', 'pause', 'limited');
    await update('limited', { pids: { limit: 78 } });
    expect(read('pids', 'limited', 'pids.max')).toBe('78');
  });

  it('an update that cannot be is refused and changes nothing', async () => {
    await sleeper('refused');
    await update('refused', { pids: { limit: 50 } });
    await expect(update('refused', { memory: { limit: 1 } })).rejects.toThrow();
    await expect(update('refused', 'no json')).rejects.toThrow();
    expect(read('pids', 'refused', 'pids.max')).toBe('50');
    await ctr('task', 'kill', '-s', 'KILL', 'refused');
    await until('the end', async () => (await ctr('task', 'ls')).stdout.includes('STOPPED'));
    await expect(update('refused', { pids: { limit: 51 } })).rejects.toThrow(
      'cannot update a stopped container',
    );
  });

  it('pids are those of the container, of execs with their ids, and of nested cgroups', async () => {
    await ctrRun(['-d', '--null-io'], 'many', 'sh', '-c', 'sleep 1000 & sleep 1000; true');
    await ctr('task', 'exec', '-d', '--exec-id', 'side', 'many', 'sleep', '1000');
    const listed = await until('four processes', async () => {
      const found = await pids('many');
      return found.length === 4 && found;
    });
    const side = listed.filter(({ exec }) => exec !== undefined);
    expect(side.map(({ exec }) => exec)).toEqual(['side']);
    const nested = cgroup('devices', 'many', 'inner');
    mkdirSync(nested);
    writeFileSync(join(nested, 'cgroup.procs'), String(side[0]?.pid));
    await ctr('task', 'pause', 'many');
    expect(sorted((await pids('many')).map(({ pid }) => pid))).toEqual(sorted(await runcPs('many')));
    expect(await pids('many')).toHaveLength(4);
    await ctr('task', 'resume', 'many');
    writeFileSync(cgroup('devices', 'many', 'cgroup.procs'), String(side[0]?.pid));
    rmdirSync(nested);
  });

  it('statistics are those that the kernel has, field by field', async () => {
    const limits = ['--memory-limit', String(64 << 20), '--cpu-quota', '50000', '--cpu-period', '100000'];
    const work = 'head -c 20000000 /dev/zero | tail -c 5000000 >/tmp/x; touch /done; sleep 1000';
    await ctrRun(['-d', '--null-io', ...limits], 'counted', 'sh', '-c', work);
    await until(
      'the work',
      async () => (await ctr('task', 'exec', '--exec-id', 'e', 'counted', 'test', '-f', '/done')).code === 0,
    );
    // Nothing counts on while it is frozen.
    await ctr('task', 'pause', 'counted');
    const place = placeOf(
      readFileSync(`/proc/${(await runcPs('counted'))[0]}/cgroup`, 'utf8'),
      cgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8')),
      '/default/counted',
    );
    if (!place) throw new Error('no cgroup');
    await until('equal statistics', async () => {
      const [answered, here] = await Promise.all([stats('counted'), readStats(place, native)]);
      expect(answered.type_url).toBe('io.containerd.cgroups.v1.Metrics');
      expect(await decodeStats(answered)).toEqual(await decodeStats(here));
      return true;
    });
    const message = await decodeStats(await stats('counted'));
    expect(message).toMatchObject({
      memory: { usage: { limit: String(64 << 20) }, totalPgFault: expect.stringMatching(/^\d{3,}$/) },
      cpu: { usage: { total: expect.stringMatching(/^\d{6,}$/) } },
      pids: { current: '1' },
    });
    const printed = JSON.parse((await ctr('task', 'metrics', '--format', 'json', 'counted')).stdout);
    expect(printed).toMatchObject({ memory: { usage: { limit: 64 << 20 } }, pids: { current: 1 } });
  });

  it('statistics of a container that ended can be had until it is deleted', async () => {
    await sleeper('ended');
    await ctr('task', 'kill', '-s', 'KILL', 'ended');
    await until('the end', async () => (await ctr('task', 'ls')).stdout.includes('STOPPED'));
    expect((await decodeStats(await stats('ended')))['cpu']).toMatchObject({
      usage: { total: expect.any(String) },
    });
  });

  it.each([
    ['the init', (hog: string[]) => ['sh', '-c', `exec ${hog.join(' ')}`], 137],
    ['a child of the init', (hog: string[]) => ['sh', '-c', `${hog.join(' ')}; sleep 1; exit 5`], 5],
  ])(
    'tells that %s was killed for want of memory, thaw once and before the exit',
    async (_, command, exit) => {
      const events = await watchEvents(containerd);
      try {
        const hog = ['tail', '-c', '200000000', '/dev/zero'];
        await ctrRun(['-d', '--null-io', '--memory-limit', String(16 << 20)], 'hog', ...command(hog));
        await until(
          'the end',
          () => events.seen('hog').some((event) => event.startsWith('/tasks/exit')),
          30_000,
        );
        const all = ['/tasks/create', '/tasks/start', '/tasks/oom', `/tasks/exit ${exit}`];
        if (shim === 'thaw') expect(events.seen('hog')).toEqual(all);
        else {
          // It was seen to tell of it twice, after the exit, and not at all.
          const seen = events.seen('hog');
          expect(seen).toEqual(expect.arrayContaining(all.filter((event) => event !== '/tasks/oom')));
          expect(all).toEqual(expect.arrayContaining(seen));
        }
      } finally {
        await events.stop();
      }
    },
  );

  if (shim === 'thaw')
    it('holds nothing of a container that is deleted', async () => {
      const group = ['--annotation', 'io.containerd.runc.v2.group=pod'];
      await ctrRun(['-d', '--null-io', ...group], 'stays', 'sleep', '1000');
      const server = await serverOf('stays');
      const open = () => readdirSync(`/proc/${server}/fd`).length;
      await ctrRun(['--rm', '--null-io', ...group], 'first', 'true');
      const before = open();
      for (let i = 0; i < 5; i += 1) await ctrRun(['--rm', '--null-io', ...group], `goes-${i}`, 'true');
      await until('the descriptors to be closed', () => open() <= before);
    });

  if (shim === 'thaw')
    it('an update with another type is an invalid argument', async () => {
      await sleeper('typed');
      await expect(update('typed', {}, RESOURCES.replace('Linux', 'Windows'))).rejects.toMatchObject({
        code: 3,
      });
    });
});

it('hears of changes in a cgroup of v2', async () => {
  // memory.events is told of by the same means, but the memory controller is on v1 here.
  const dir = '/sys/fs/cgroup/unified/heard';
  mkdirSync(dir);
  const texts: string[] = [];
  const watch = native.watchFile(join(dir, 'cgroup.events'), (_, text) =>
    texts.push(/populated \d/.exec(text ?? '')?.[0] ?? ''),
  );
  await until('the first text', () => texts.length > 0);
  const child = spawn('sleep', ['1000']);
  writeFileSync(join(dir, 'cgroup.procs'), String(child.pid));
  await until('the process to be seen', () => texts.at(-1) === 'populated 1');
  child.kill('SIGKILL');
  await until('its end to be seen', () => texts.at(-1) === 'populated 0');
  rmdirSync(dir);
  native.watchStop(watch);
  expect(texts).toEqual(['populated 0', 'populated 1', 'populated 0']);
});
