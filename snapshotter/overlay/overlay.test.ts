import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { SnapshotStore } from '../store/index.ts';
import { GID_MAPPING_LABEL, UID_MAPPING_LABEL } from './id-map.ts';
import { Directories, OverlaySnapshotter } from './index.ts';

let dir: string;
let snapshots: string;
let store: SnapshotStore;
let snapshotter: OverlaySnapshotter;
let told: string[];

const open = () => {
  store = new SnapshotStore(join(dir, 'meta.db'));
  let now = 1n;
  snapshotter = new OverlaySnapshotter({
    store,
    directories: new Directories(snapshots, native),
    mountOptions: [],
    now: () => now++,
    events: {
      onNotDeleted: (error) => told.push(`not deleted: ${(error as NodeJS.ErrnoException).code}`),
      onRemade: (name) => told.push(`remade ${name}`),
      onNotRemade: (name, error) => told.push(`not remade ${name}: ${(error as NodeJS.ErrnoException).code}`),
      onLost: (names) => told.push(`lost ${names.join(' ')}`),
    },
  });
};
const reopen = async () => {
  await snapshotter.settle();
  store.close();
  open();
  await snapshotter.recover();
};
const names = () => readdirSync(snapshots).sort();
const idOf = (name: string) => String(store.get(name).directory.id);
const prepare = (key: string, parent = '') => snapshotter.create('active', key, parent, {});
const commit = async (name: string, parent = '') => {
  await prepare(`key of ${name}`, parent);
  await snapshotter.commit(name, `key of ${name}`, {});
};
const fails = (code: Code) => expect.objectContaining({ code });
/** Makes every new row fail at its last step, as a full disk can. */
const refuseRows = (refuse: boolean) => {
  const db = new Database(join(dir, 'meta.db'));
  db.exec(
    refuse
      ? "CREATE TRIGGER refuse BEFORE INSERT ON snapshots BEGIN SELECT RAISE(ABORT, 'refused'); END"
      : 'DROP TRIGGER refuse',
  );
  db.close();
};

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-overlay-'));
  snapshots = join(dir, 'snapshots');
  mkdirSync(snapshots);
  told = [];
  open();
});
afterEach(async () => {
  await snapshotter.settle();
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

describe('a new snapshot', () => {
  test('whose row cannot be written leaves no directory, and the next one works', async () => {
    refuseRows(true);
    await expect(prepare('a')).rejects.toThrow('refused');
    expect(names()).toEqual([]);
    expect(store.find('a')).toBeUndefined();
    refuseRows(false);
    await prepare('a');
    expect(names()).toEqual([idOf('a')]);
  });

  test('whose key is taken or whose parent is missing leaves nothing', async () => {
    await prepare('a');
    await expect(prepare('a')).rejects.toEqual(fails(Code.alreadyExists));
    await expect(prepare('b', 'missing')).rejects.toEqual(fails(Code.notFound));
    await expect(prepare('b', 'a')).rejects.toEqual(fails(Code.invalidArgument));
    expect(names()).toEqual([idOf('a')]);
  });

  test('belongs to the root that the id-map labels name', async () => {
    // As anyone but root only the own id can be given away.
    const { uid, gid } = process.getuid?.() === 0 ? { uid: 4321, gid: 8765 } : statSync(dir);
    const labels = { [UID_MAPPING_LABEL]: `0:${uid}:65536`, [GID_MAPPING_LABEL]: `0:${gid}:65536` };
    await commit('base');
    const [plain] = await snapshotter.create('active', 'mapped', '', labels);
    expect(statSync(plain?.source ?? '')).toMatchObject({ uid, gid });
    await snapshotter.create('active', 'above', 'base', labels);
    expect(statSync(join(snapshots, idOf('above'), 'fs'))).toMatchObject({ uid, gid });
    await expect(
      snapshotter.create('active', 'bad', '', { ...labels, [UID_MAPPING_LABEL]: 'x' }),
    ).rejects.toEqual(fails(Code.invalidArgument));
    expect(store.find('bad')).toBeUndefined();
  });
});

describe('the flush of a directory', () => {
  /** Those that were begun, to be ended in order. */
  let begun: PromiseWithResolvers<void>[];
  const turns = async () => {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  const told = (promise: Promise<unknown>) => {
    const state = { answered: false };
    promise.then(
      () => {
        state.answered = true;
      },
      () => {},
    );
    return state;
  };
  beforeEach(() => {
    begun = [];
    const flush = () => {
      const one = Promise.withResolvers<void>();
      begun.push(one);
      return one.promise;
    };
    snapshotter = new OverlaySnapshotter({
      store,
      directories: new Directories(snapshots, native, undefined, flush),
      mountOptions: [],
      now: () => 1n,
      events: { onNotDeleted: () => {}, onRemade: () => {}, onNotRemade: () => {}, onLost: () => {} },
    });
  });

  test('is waited for by Commit, and not by Prepare, behind which it begins', async () => {
    await prepare('a');
    await vi.waitUntil(() => begun.length === 1);
    await prepare('b');
    const first = snapshotter.commit('first', 'a', {});
    const second = snapshotter.commit('second', 'b', {});
    const state = { first: told(first), second: told(second) };
    await turns();
    expect(store.find('first')).toBeUndefined();
    begun[0]?.resolve();
    await first;
    await turns();
    // It was made while the flush ran.
    expect(state.second.answered).toBe(false);
    expect(store.find('second')).toBeUndefined();
    expect(begun.length).toBe(2);
    begun[1]?.resolve();
    await second;
    await prepare('c');
    await vi.waitUntil(() => begun.length === 3);
    begun[2]?.resolve();
    await turns();
    await snapshotter.commit('third', 'c', {});
    expect(begun.length).toBe(3);
  });

  test('is that of the snapshot that has the key when it is committed', async () => {
    await prepare('key');
    const commit = snapshotter.commit('layer', 'key', {});
    const state = told(commit);
    await vi.waitUntil(() => begun.length === 1);
    await snapshotter.remove('key');
    await prepare('key');
    begun[0]?.resolve();
    await vi.waitUntil(() => begun.length === 2);
    await turns();
    expect(state.answered).toBe(false);
    begun[1]?.resolve();
    expect((await commit).directory.id).toBe(store.get('layer').directory.id);
    expect(names()).toContain(idOf('layer'));
  });

  test('comes before the row of a layer that is ready as it is', async () => {
    const content = { kind: 'plain', files: { file: Buffer.from('x') } } as const;
    const made = snapshotter.createReady({ name: 'ready', parent: '', labels: {}, content });
    await vi.waitUntil(() => begun.length === 1);
    await turns();
    expect(store.find('ready')).toBeUndefined();
    begun[0]?.resolve();
    await made;
    expect(store.get('ready').kind).toBe('committed');
  });

  test('that failed lets nothing be made or committed any more', async () => {
    await prepare('a');
    const commit = snapshotter.commit('layer', 'a', {});
    await vi.waitUntil(() => begun.length === 1);
    begun[0]?.reject(new Error('EIO: i/o error'));
    const broken = expect.objectContaining({
      code: Code.internal,
      message: expect.stringMatching(/^Cannot flush ".*snapshots": EIO.*restart thaw-snapshotter$/),
    });
    await expect(commit).rejects.toEqual(broken);
    await expect(prepare('b')).rejects.toEqual(broken);
    await expect(snapshotter.commit('layer', 'a', {})).rejects.toEqual(broken);
    expect([store.find('b'), store.find('layer')]).toEqual([undefined, undefined]);
    expect(names()).toEqual([idOf('a')]);
  });
});

describe('removal', () => {
  test('succeeds where the directory is gone already', async () => {
    await prepare('a');
    rmSync(join(snapshots, idOf('a')), { recursive: true });
    await snapshotter.remove('a');
    expect(store.find('a')).toBeUndefined();
    await expect(snapshotter.remove('a')).rejects.toEqual(fails(Code.notFound));
  });

  test('takes away the mount of a lazy layer before it is answered, whatever is deleted before it', async () => {
    const unmounted: string[] = [];
    snapshotter = new OverlaySnapshotter({
      store,
      directories: new Directories(snapshots, native, (directory) => unmounted.push(directory)),
      mountOptions: [],
      now: () => 1n,
      events: { onNotDeleted: () => {}, onRemade: () => {}, onNotRemade: () => {}, onLost: () => {} },
    });
    const mount = async () => {};
    const content = { kind: 'lazy', layer: 'sha256:0', files: {}, mount } as const;
    const { directory } = await snapshotter.createReady({ name: 'lazy', parent: '', labels: {}, content });
    const others = Array.from({ length: 20 }, () => snapshotter.cleanup());
    await snapshotter.remove('lazy');
    expect(unmounted).toContain(join(snapshots, String(directory.id), 'fs'));
    await Promise.all(others);
  });

  test('succeeds where the directory cannot be taken away, which Cleanup then does', async () => {
    await prepare('a');
    const id = idOf('a');
    // A file in place of the folder: every rename within fails, as on a disk with errors.
    const aside = `${snapshots}.aside`;
    renameSync(snapshots, aside);
    writeFileSync(snapshots, '');
    await snapshotter.remove('a');
    await snapshotter.settle();
    expect(told).toEqual(['not deleted: ENOTDIR']);
    expect(store.find('a')).toBeUndefined();
    rmSync(snapshots);
    renameSync(aside, snapshots);
    expect(names()).toEqual([id]);
    await snapshotter.cleanup();
    expect(names()).toEqual([]);
  });
});

test('what was removed is deleted soon, also where nobody asks for it', async () => {
  await prepare('a');
  await prepare('b');
  const kept = [idOf('b')];
  await snapshotter.remove('a');
  await vi.waitUntil(() => names().length === 1, { timeout: 20_000 });
  expect(names()).toEqual(kept);
  await snapshotter.settle();
  await snapshotter.remove('b');
  await snapshotter.settle();
  expect(names()).toEqual([]);
});

describe('Cleanup', () => {
  test('takes orphans and leaves what lives, what is being made, and what is not ours', async () => {
    await commit('layer');
    await prepare('active', 'layer');
    for (const name of ['900', 'new-x', 'gone-y', 'lost+found'])
      mkdirSync(join(snapshots, name, 'fs'), { recursive: true });
    const many = Array.from({ length: 40 }, (_, i) => prepare(`m${i}`));
    for (let i = 0; i < 5; i++) await snapshotter.cleanup();
    await Promise.all(many);
    await snapshotter.cleanup();
    expect(new Set(names())).toEqual(new Set([...[...store.directories()].map(String), 'lost+found']));
    expect(store.directories().size).toBe(42);
  });

  test('asked for by many at once answers all of them', async () => {
    await Promise.all(Array.from({ length: 20 }, () => snapshotter.cleanup()));
  });
});

describe('after a start', () => {
  test('orphans go, and no id of one is given again', async () => {
    await prepare('a');
    mkdirSync(join(snapshots, '7', 'fs'), { recursive: true });
    await reopen();
    await prepare('b');
    expect(Number(idOf('b'))).toBeGreaterThan(7);
    await snapshotter.cleanup();
    expect(names()).toEqual([idOf('a'), idOf('b')].sort());
  });

  test('the directory of an active snapshot or a view that is gone is made again', async () => {
    await commit('layer');
    await prepare('active', 'layer');
    await snapshotter.create('view', 'view', '', {});
    for (const name of ['active', 'view']) rmSync(join(snapshots, idOf(name)), { recursive: true });
    await reopen();
    expect(told.sort()).toEqual(['remade active', 'remade view']);
    expect(readdirSync(join(snapshots, idOf('active'))).sort()).toEqual(['fs', 'work']);
    expect(readdirSync(join(snapshots, idOf('view')))).toEqual(['fs']);
  });

  test('what a power failure left of the directory of an active snapshot is made whole', async () => {
    const { uid, gid } = process.getuid?.() === 0 ? { uid: 4321, gid: 8765 } : statSync(dir);
    const labels = { [UID_MAPPING_LABEL]: `0:${uid}:65536`, [GID_MAPPING_LABEL]: `0:${gid}:65536` };
    await commit('layer');
    await prepare('without work', 'layer');
    await snapshotter.create('active', 'without fs', 'layer', labels);
    const before = snapshotter.mounts('without fs');
    const fs = join(snapshots, idOf('without work'), 'fs');
    writeFileSync(join(fs, 'content'), 'x');
    rmSync(join(snapshots, idOf('without work'), 'work'), { recursive: true });
    rmSync(join(snapshots, idOf('without fs'), 'fs'), { recursive: true });
    await reopen();
    expect(told).toEqual(['remade without fs']);
    expect(readdirSync(fs)).toEqual(['content']);
    expect(statSync(join(snapshots, idOf('without work'), 'work')).mode & 0o7777).toBe(0o711);
    expect(statSync(join(snapshots, idOf('without fs'), 'fs'))).toMatchObject({ uid, gid });
    expect(readdirSync(join(snapshots, idOf('without fs'))).sort()).toEqual(['fs', 'work']);
    expect(snapshotter.mounts('without fs')).toEqual(before);
    await snapshotter.cleanup();
    expect(names()).toEqual([...store.directories()].map(String).sort());
  });

  test('nothing is taken for gone because the disk does not say', async () => {
    await commit('layer');
    await prepare('active', 'layer');
    const fs = join(snapshots, idOf('active'), 'fs');
    renameSync(fs, join(dir, 'content'));
    // In the place of an I/O error.
    symlinkSync(fs, fs);
    await reopen();
    expect(told).toEqual(['not remade active: ELOOP']);
    expect(readlinkSync(fs)).toBe(fs);
  });

  test('a committed snapshot without its files is not mounted, but can be removed', async () => {
    await commit('lost');
    await commit('child', 'lost');
    await prepare('active', 'child');
    rmSync(join(snapshots, idOf('lost')), { recursive: true });
    await reopen();
    expect(told).toEqual(['lost lost']);
    expect(snapshotter.stat('lost').kind).toBe('committed');
    expect(() => snapshotter.mounts('active')).toThrow(fails(Code.dataLoss));
    await expect(prepare('another', 'child')).rejects.toEqual(fails(Code.dataLoss));
    expect(store.find('another')).toBeUndefined();
    for (const name of ['active', 'child', 'lost']) await snapshotter.remove(name);
    await commit('lost');
    await prepare('another', 'lost');
    await snapshotter.cleanup();
    expect(names()).toEqual([idOf('lost'), idOf('another')].sort());
  });
});

describe('usage', () => {
  test('of a view is nothing', async () => {
    await commit('layer');
    await snapshotter.create('view', 'view', 'layer', {});
    await snapshotter.create('view', 'empty', '', {});
    expect(await snapshotter.usage('view')).toEqual({ size: 0n, inodes: 0n });
    expect(await snapshotter.usage('empty')).toEqual({ size: 0n, inodes: 0n });
  });

  test('of an active snapshot is counted anew, of a committed one once', async () => {
    await prepare('a');
    const fs = join(snapshots, idOf('a'), 'fs');
    expect((await snapshotter.usage('a')).inodes).toBe(1n);
    writeFileSync(join(fs, 'one'), 'x');
    expect((await snapshotter.usage('a')).inodes).toBe(2n);
    await snapshotter.commit('done', 'a', {});
    const counted = await snapshotter.usage('done');
    expect(counted.inodes).toBe(2n);
    writeFileSync(join(fs, 'two'), 'x');
    utimesSync(fs, 1, 1);
    expect(await snapshotter.usage('done')).toEqual(counted);
    await reopen();
    expect(await snapshotter.usage('done')).toEqual(counted);
    expect(existsSync(join(fs, 'two'))).toBe(true);
  });
});
