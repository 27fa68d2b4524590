import { join } from 'node:path';
import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { v1 } from './fixtures/v1.ts';
import { v2 } from './fixtures/v2.ts';
import type { CgroupPlace } from './locate.ts';
import { readStats, type StatsCalls } from './stats.ts';

/** Decodes by the .proto file, independently of the generated code. 64-bit values come as text. */
async function decode({ type_url, value }: { type_url: string; value: Uint8Array }) {
  const root = new protobuf.Root();
  root.resolvePath = (_, target) => join(import.meta.dirname, '../../proto', target);
  const version = /\.(v\d)\./.exec(type_url)?.[1];
  await root.load(`containerd/cgroups/${version}/metrics.proto`);
  const type = root.lookupType(type_url);
  return { type, message: type.toObject(type.decode(value), { longs: String }) };
}

/** Names of fields, also of messages within, that a message does not have. */
function missing(type: protobuf.Type, message: Record<string, unknown>, path = ''): string[] {
  return type.fieldsArray.flatMap((field) => {
    const name = path + field.name;
    const value = field.resolve().repeated
      ? (message[field.name] as unknown[] | undefined)?.[0]
      : message[field.name];
    if (value === undefined) return [name];
    if (!(field.resolvedType instanceof protobuf.Type)) return [];
    return missing(field.resolvedType, value as Record<string, unknown>, `${name}.`);
  });
}

const calls = (files: Readonly<Record<string, string>>) => ({
  readFiles: async (paths: string[]) => paths.map((path) => files[path] ?? -2),
});

const stats = (place: CgroupPlace, kernel: StatsCalls) => readStats(place, kernel, Promise.resolve(['2MB']));

describe('statistics of v1', () => {
  const dirs = new Map(
    ['cpu', 'cpuacct', 'memory', 'pids', 'blkio', 'hugetlb', 'rdma'].map((name) => [name, `/${name}/c`]),
  );
  const place = { version: 'v1', dirs } as const;

  it('fill every field, exactly', async () => {
    const { type, message } = await decode(await stats(place, calls(v1.files)));
    // Only CFQ counts these, and it is gone from newer kernels.
    const cfq = ['ioQueued', 'ioServiceTime', 'ioWaitTime', 'ioMerged', 'ioTime', 'sectors'];
    expect(missing(type, message)).toEqual(cfq.map((name) => `blkio.${name}Recursive`));
    expect(message).toMatchObject(v1.message);
  });

  it('take the numbers of CFQ where it schedules', async () => {
    const { message } = await decode(await stats(place, calls({ ...v1.files, ...v1.cfq })));
    expect(message['blkio']).toEqual(v1.cfqMessage);
  });

  it('leave unset what the kernel does not have', async () => {
    const files = { '/memory/c/memory.usage_in_bytes': '5', '/memory/c/memory.stat': 'cache 1\n' };
    const { message } = await decode(await stats(place, calls(files)));
    expect(message).toEqual({
      cpu: { usage: {}, throttling: {} },
      memory: { cache: '1', usage: { usage: '5' }, swap: {}, kernel: {}, kernelTcp: {} },
    });
  });
});

describe('statistics of v2', () => {
  const place = { version: 'v2', dir: '/c', mount: '/' } as const;

  it('fill every field, exactly', async () => {
    const { type, message } = await decode(await stats(place, calls(v2.files)));
    // Each kernel has either the old pair or the new four.
    expect(missing(type, message)).toEqual(['memory.workingsetRefault', 'memory.workingsetActivate']);
    expect(message).toMatchObject(v2.message);
  });

  it('leave unset what an older kernel does not have', async () => {
    const files = {
      '/c/memory.stat': 'anon 1\nworkingset_refault 2\nworkingset_activate 3\n',
      '/c/pids.max': 'max\n',
    };
    const { message } = await decode(await stats(place, calls(files)));
    expect(message).toEqual({
      pids: { limit: '18446744073709551615' },
      cpu: {},
      memory: { anon: '1', workingsetRefault: '2', workingsetActivate: '3' },
      io: {},
      rdma: {},
    });
  });

  it('are not found where the cgroup is gone', async () => {
    await expect(stats(place, calls({}))).rejects.toMatchObject({ message: 'cgroup does not exist' });
    await expect(stats(place, calls({ '/proc/partitions': '' }))).rejects.toMatchObject({ code: 5 });
  });
});
