import { execFileSync } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { criu } from '../../proto/gen/criu-dump.js';
import { criu as rights } from '../../proto/gen/criu-forge.js';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { seeded } from '../random.test-helper.ts';
import { readDescriptors, readFiles } from './files.ts';
import { Magic, readMessages, writeMessages } from './framing.ts';
import { ImageDir } from './image-dir.ts';
import { readImageRights } from './image-rights.ts';
import { readInventory } from './inventory.ts';
import { readIpcVars, writeIpcVars } from './ipcns.ts';
import { readMountpoints } from './mountpoints.ts';
import { PageFlag, readPagemap, writePagemap } from './pagemap.ts';
import { summarizeDump } from './summary.ts';
import { rightsOfCore } from './task-rights.ts';
import { readCore, readPstree, readVmas } from './tasks.ts';

const fixtures = join(import.meta.dirname, '../../test/fixtures/criu-4.2');
const fixture = (name: string) => readFile(join(fixtures, name));

const head = criu.dump.PagemapHead.encode({ pagesId: 7 }).finish();
type EntryFields = Parameters<typeof criu.dump.PagemapEntry.encode>[0];
const pagemap = (...entries: (EntryFields | Uint8Array)[]) =>
  writeMessages(Magic.pagemap, [
    head,
    ...entries.map((e) => (e instanceof Uint8Array ? e : criu.dump.PagemapEntry.encode(e).finish())),
  ]);

describe('page maps', () => {
  it('of a real dump add up to its pages file', async () => {
    const { pagesId, runs } = readPagemap(await fixture('pagemap-1.img'), 'pagemap-1.img');
    expect(pagesId).toBe(1);
    expect(runs).toHaveLength(117);
    expect(runs[0]).toEqual({ address: 0x422000n, pages: 1, flags: PageFlag.present });
    expect(runs.reduce((sum, run) => sum + run.pages, 0) * 4096).toBe(39_473_152);
  });

  it('are read in both dialects: the count in field 5, or in field 2', () => {
    const both = pagemap(
      { vaddr: 4096, compatNrPages: 0, flags: 4, nrPages: 9 },
      { vaddr: 8192, compatNrPages: 8, flags: 6 },
      { vaddr: 8192, compatNrPages: 8 },
      { vaddr: 8192, compatNrPages: 8, inParent: true },
    );
    expect(readPagemap(both, 'x').runs.map((run) => [run.pages, run.flags])).toEqual([
      [9, PageFlag.present],
      [8, PageFlag.present | PageFlag.lazy],
      [8, PageFlag.present],
      [8, PageFlag.parent],
    ]);
  });

  it('are written for both', async () => {
    const saved = readPagemap(await fixture('pagemap-1.img'), 'pagemap-1.img');
    const huge = { address: 1n << 46n, pages: 2 ** 33, flags: PageFlag.present };
    const written = writePagemap({ ...saved, runs: [...saved.runs, huge] });
    expect(readPagemap(written, 'x')).toEqual({ ...saved, runs: [...saved.runs, huge] });
    const [, first] = readMessages(written, Magic.pagemap, 'x');
    expect(criu.dump.PagemapEntry.decode(first ?? head).compatNrPages).toBe(1);
  });

  it('have addresses exactly, beyond what a number holds', () => {
    const runs = [{ address: (1n << 63n) + 4096n, pages: 3, flags: PageFlag.present | PageFlag.lazy }];
    expect(readPagemap(writePagemap({ pagesId: 7, runs }), 'x').runs).toEqual(runs);
  });

  it('that are cut off or lack what each has are refused', () => {
    const whole = criu.dump.PagemapEntry.encode({ vaddr: 4096, compatNrPages: 1, flags: 4 }).finish();
    for (const entry of [
      whole.subarray(0, 2),
      whole.subarray(0, 1),
      Buffer.from([0x10, 1]),
      Buffer.from([0x08, 0]),
    ])
      expect(() => readPagemap(pagemap(entry), 'x')).toThrow('cannot be decoded');
    // CRIU would read 1 page of it.
    const wide = Buffer.from([0x08, 0, 0x10, 0x81, 0x80, 0x80, 0x80, 0x10]);
    expect(() => readPagemap(pagemap(wide), 'x')).toThrow('cannot be decoded');
  });

  it('with fields or flags that are not known are refused', () => {
    const known = criu.dump.PagemapEntry.encode({ vaddr: 4096, compatNrPages: 1, flags: 4 }).finish();
    for (const more of [
      [0x30, 1],
      [0x3a, 1, 0],
    ])
      expect(() => readPagemap(pagemap(Buffer.concat([known, Buffer.from(more)])), 'x')).toThrow(
        'newer CRIU',
      );
    expect(() => readPagemap(pagemap({ vaddr: 0, compatNrPages: 1, flags: 12 }), 'x')).toThrow('newer CRIU');
  });

  it('with impossible counts are refused', () => {
    for (const entry of [
      { vaddr: 0, compatNrPages: 0 },
      { vaddr: 0, compatNrPages: 5, nrPages: 0 },
      { vaddr: 0, compatNrPages: 0, nrPages: 2 ** 41 },
    ])
      expect(() => readPagemap(pagemap(entry), 'x')).toThrow(/a run has \d+ pages/);
    expect(() => readPagemap(writeMessages(Magic.pagemap, []), 'x')).toThrow('empty');
  });
});

describe('images of a real dump', () => {
  it('ipcns-var comes back byte for byte, and with other values', async () => {
    const bytes = await fixture('ipcns-var-11.img');
    const vars = readIpcVars(bytes);
    expect(vars).toMatchObject({ sem: [32000, 1024000000, 500, 32000], msgmax: 8192 });
    expect(vars.shmmax).toBe(18446744073692774399n);
    expect(writeIpcVars(vars).equals(bytes)).toBe(true);
    expect(readIpcVars(writeIpcVars({ ...vars, shmmax: 4096n, mqMsgDefault: undefined }))).toEqual({
      ...vars,
      shmmax: 4096n,
      mqMsgDefault: undefined,
    });
  });

  it('files.img names paths and sizes, fdinfo the descriptors', async () => {
    const files = readFiles(await fixture('files.img'));
    expect(files[0]).toEqual({
      id: 1,
      type: 1,
      path: '/usr/bin/python3.14',
      size: 8264008n,
      mode: 0o100755,
      isExternal: false,
    });
    const descriptors = readDescriptors(await fixture('fdinfo-2.img'), 'fdinfo-2.img');
    expect(descriptors.map((d) => d.fd)).toEqual([0, 1, 2, 3]);
    for (const { file } of descriptors) expect(files.map((f) => f.id)).toContain(file);
  });

  it('mm keeps addresses above 2^53', async () => {
    const vmas = readVmas(await fixture('mm-1.img'), 'mm-1.img');
    expect(vmas).toHaveLength(92);
    expect(vmas.at(-1)).toMatchObject({ start: 0xffffffffff600000n, end: 0xffffffffff601000n });
  });

  it('mountpoints tell external mounts from those that CRIU makes', async () => {
    const mounts = readMountpoints(await fixture('mountpoints-13.img'), 'mountpoints-13.img');
    expect(mounts).toHaveLength(27);
    expect(mounts.find((m) => m.mountpoint === '/etc/hosts')?.externalKey).toBe('/etc/hosts');
    expect(mounts.find((m) => m.mountpoint === '/proc')?.externalKey).toBeUndefined();
  });

  it('core, pstree and inventory', async () => {
    const core = readCore(await fixture('core-1.img'), 'core-1.img');
    expect(core).toMatchObject({ comm: 'python3', isZombie: false });
    expect(core.rlimits[7]).toEqual({ current: 1024n, max: 1024n });
    expect(readPstree(await fixture('pstree.img'))).toEqual([{ pid: 1, ppid: 0, threads: [1] }]);
    expect(readInventory(await fixture('inventory.img'))).toEqual({
      plugins: [],
      tcpClose: true,
    });
  });

  it('are summarised', async () => {
    const summary = await summarizeDump(fixtures);
    expect(summary).toMatchObject({
      processes: [{ pid: 1, ppid: 0, comm: 'python3', threads: 1 }],
      memoryBytes: 39_473_152,
      plugins: [],
    });
    expect(summary.externalMounts).toContainEqual({ key: '/etc/hostname', mountpoint: '/etc/hostname' });
  });
});

describe('hostile images', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'thaw-criu-'));
    await cp(fixtures, dir, { recursive: true });
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  it('links, fifos, huge files and missing files are refused', async () => {
    const image = join(dir, 'core-1.img');
    for (const make of [
      () => symlink(join(fixtures, 'core-1.img'), image),
      () => execFileSync('mkfifo', [image]),
      async () => {
        await writeFile(image, '');
        await truncate(image, 2 ** 31);
      },
    ]) {
      await rm(image);
      await make();
      await expect(summarizeDump(dir)).rejects.toMatchObject({ code: Code.dataLoss });
      await expect(readImageRights(dir)).rejects.toMatchObject({ code: Code.dataLoss });
    }
    await rm(image);
    await expect(summarizeDump(dir)).rejects.toThrow('"core-1.img" of the checkpoint: it is missing');
  });

  it('are read in the order asked for, up to the first that cannot be read', async () => {
    await using images = await ImageDir.open(dir);
    const names = Array.from({ length: 40 }, (_, i) => `seq-${i}.img`);
    for (const name of names) await writeFile(join(dir, name), name);
    await rm(join(dir, 'seq-30.img'));
    const seen: string[] = [];
    const readAll = async () => {
      for await (const [name, bytes] of images.readAll(names)) {
        expect(bytes.toString()).toBe(name);
        seen.push(name);
      }
    };
    await expect(readAll()).rejects.toThrow('"seq-30.img" of the checkpoint: it is missing');
    expect(seen).toEqual(names.slice(0, 30));
  });

  it('no name leads out of the directory', async () => {
    await using images = await ImageDir.open(dir);
    for (const name of ['../x', '/etc/passwd', '..', '.']) await expect(images.read(name)).rejects.toThrow();
  });

  it('a dump on top of another, and one of no process, are refused', async () => {
    await writeFile(join(dir, 'pagemap-1.img'), pagemap({ vaddr: 0, compatNrPages: 1, flags: 1 }));
    await expect(summarizeDump(dir)).rejects.toThrow('dump without a parent');
    await writeFile(join(dir, 'pstree.img'), writeMessages(Magic.pstree, []));
    await expect(summarizeDump(dir)).rejects.toThrow('no process');
  });

  it('process ids that cannot be are refused', () => {
    const tree = (...pids: number[]) =>
      writeMessages(
        Magic.pstree,
        pids.map((pid) => criu.dump.Task.encode({ pid, ppid: 0, pgid: 1, sid: 1, threads: [pid] }).finish()),
      );
    for (const bytes of [tree(0), tree(2 ** 31), tree(1, 1)]) expect(() => readPstree(bytes)).toThrow();
  });

  it('what an image leaves out is not taken for zero', () => {
    const reg = { id: 1, flags: 0, pos: 0, name: '/x' };
    const file = criu.dump.File.encode({ type: 1, id: 1, reg }).finish();
    expect(readFiles(writeMessages(Magic.files, [file]))[0]?.size).toBeUndefined();
  });

  it('seccomp filters in the form of older CRIU, which CRIU would prefer, are refused', () => {
    const creds = { uid: 0, gid: 0, euid: 0, egid: 0, suid: 0, sgid: 0, fsuid: 0, fsgid: 0, secbits: 0 };
    for (const old of [{}, { oldSeccompMode: 0 }, { oldSeccompFilter: 0 }]) {
      const threadCore = { creds, seccompMode: 2 };
      const core = rights.Core.encode({ tc: { comm: 'x', ...old }, threadCore }).finish();
      const read = () => rightsOfCore(1, writeMessages(Magic.core, [core]), 'core-1.img').task?.seccompMode;
      if (Object.keys(old).length === 0) expect(read()).toBe(2);
      else expect(read).toThrow('as no CRIU of today does');
    }
  });

  it('a process name cannot drive a terminal', () => {
    const tc = { taskState: 1, comm: '\u001b[2Jx' };
    const bytes = writeMessages(Magic.core, [criu.dump.Core.encode({ tc }).finish()]);
    expect(readCore(bytes, 'core-1.img').comm).toBe('?[2Jx');
  });

  it('damage gives CheckpointError or values, never another error', async () => {
    const readers: [string, (bytes: Uint8Array) => unknown][] = [
      ['pagemap-1.img', (b) => readPagemap(b, 'x')],
      ['core-1.img', (b) => readCore(b, 'x')],
      ['mm-1.img', (b) => readVmas(b, 'x')],
      ['mountpoints-13.img', (b) => readMountpoints(b, 'x')],
      ['files.img', readFiles],
      ['ipcns-var-11.img', readIpcVars],
      ['inventory.img', readInventory],
      ['pstree.img', readPstree],
    ];
    const random = seeded(99);
    for (const [name, read] of readers) {
      const bytes = await fixture(name);
      for (let round = 0; round < 500; round++) {
        const damaged = Buffer.from(
          bytes.subarray(0, round % 2 ? bytes.length : random.int(bytes.length + 1)),
        );
        for (let n = random.int(4); n > 0 && damaged.length > 0; n--)
          damaged[random.int(damaged.length)] = random.int(256);
        try {
          read(damaged);
        } catch (error) {
          expect(error).toBeInstanceOf(CheckpointError);
        }
      }
    }
  });
});
