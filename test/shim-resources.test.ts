/** What the kernel counts and limits of a container. Every case runs against containerd's own shim too. */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { containerd as api } from '../proto/gen/shim.js';
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
} from './lib/index.ts';

const IMAGE = 'test.local/busybox:1';
const RESOURCES = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources';
const { UpdateTaskRequest, PidsRequest, PidsResponse } = api.task.v2;
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

  if (shim === 'thaw')
    it('an update with another type is an invalid argument', async () => {
      await sleeper('typed');
      await expect(update('typed', {}, RESOURCES.replace('Linux', 'Windows'))).rejects.toMatchObject({
        code: 3,
      });
    });
});
