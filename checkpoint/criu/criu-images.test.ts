import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Magic, readMessages, writeMessages } from './framing.ts';
import { readImageRights } from './image-rights.ts';
import { rightsOfCore } from './task-rights.ts';
import { readUtsns, writeUtsns } from './utsns.ts';

const fixtures = join(import.meta.dirname, '../../test/fixtures/criu-4.2');
const fixture = (name: string) => readFile(join(fixtures, name));

describe('framing', () => {
  it.each([
    ['core-1.img', Magic.core, 1],
    ['pstree.img', Magic.pstree, 1],
    ['inventory.img', Magic.inventory, 1],
  ] as const)('%s of a real dump comes back byte for byte', async (name, magic, count) => {
    const bytes = await fixture(name);
    const messages = readMessages(bytes, magic, name);
    expect(messages).toHaveLength(count);
    expect(writeMessages(magic, messages).equals(bytes)).toBe(true);
  });
  it('refuses another kind, a cut-off file and a length beyond its end', async () => {
    const bytes = await fixture('core-1.img');
    expect(() => readMessages(bytes, Magic.pstree, 'core-1.img')).toThrow(/does not begin/);
    expect(() => readMessages(bytes.subarray(0, 6), Magic.core, 'core-1.img')).toThrow(/does not begin/);
    expect(() => readMessages(bytes.subarray(0, bytes.length - 1), Magic.core, 'core-1.img')).toThrow(
      /cut off/,
    );
    expect(() => readMessages(bytes.subarray(0, 10), Magic.core, 'core-1.img')).toThrow(/cut off/);
  });
});

describe('utsns', () => {
  it('gives a real image other names', async () => {
    const bytes = await fixture('utsns-12.img');
    expect(readUtsns(bytes)).toEqual({ nodename: 'pod1', domainname: '(none)' });
    expect(writeUtsns(readUtsns(bytes)).equals(bytes)).toBe(true);
    const renamed = writeUtsns({ nodename: 'pod2', domainname: '(none)' });
    expect(readUtsns(renamed)).toEqual({ nodename: 'pod2', domainname: '(none)' });
  });
  it('refuses a file without an entry', () => {
    expect(() => readUtsns(writeMessages(Magic.utsns, []))).toThrow(/not exactly one entry/);
  });
});

describe('task rights', () => {
  it('reads those of a real dump', async () => {
    expect((await readImageRights(fixtures)).tasks).toEqual([
      {
        pid: 1,
        uids: [0, 0, 0, 0],
        gids: [0, 0, 0, 0],
        groups: [],
        capInheritable: 0n,
        capPermitted: 0x20000420n,
        capEffective: 0x20000420n,
        capBounding: 0x20000420n,
        capAmbient: 0n,
        noNewPrivileges: true,
        seccompMode: 0,
        securebits: 0,
        lsmLabel: undefined,
        lsmSocketLabel: undefined,
        schedPolicy: 0,
        nice: 0,
      },
    ]);
  });
  it('refuses a core image without credentials and a directory without tasks', async () => {
    expect(() => rightsOfCore(1, writeMessages(Magic.core, [Buffer.alloc(0)]), 'core-1.img')).toThrow(
      /no credentials/,
    );
    await expect(readImageRights(import.meta.dirname)).rejects.toThrow(/no image of any task/);
  });
  it('takes one without credentials only for a process that has ended', () => {
    // Core { tc { task_state, comm: "sleep" } }
    const core = (taskState: number) => {
      const bytes = Buffer.from([0x1a, 9, 0x08, taskState, 0x32, 5, ...Buffer.from('sleep')]);
      return rightsOfCore(6, writeMessages(Magic.core, [bytes]), 'core-6.img');
    };
    expect(core(2)).toEqual({ task: undefined, process: undefined });
    expect(() => core(1)).toThrow(/no credentials/);
  });
});
