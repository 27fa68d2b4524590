import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { type Kind, type Snapshot, SnapshotStore } from './index.ts';
import { updateLabels } from './update-labels.ts';

let dir: string;
let store: SnapshotStore;
let clock: bigint;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-store-'));
  store = new SnapshotStore(join(dir, 'meta.db'));
  // Needs 61 bits: a double would lose its last digits.
  clock = 1_800_000_000_123_456_789n;
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true });
});

const own = () => ({ kind: 'own', id: store.reserveDirectory() }) as const;
const create = (name: string, parent = '', kind: Kind = 'active'): Snapshot =>
  store.create({ name, parent, kind, labels: { from: name }, now: clock++ }, own());
const committed = (name: string, parent = ''): Snapshot => {
  create(`${name}-key`, parent);
  return store.commit(name, `${name}-key`, {}, clock++);
};
const fails = (code: Code, message?: string) =>
  expect.objectContaining(message === undefined ? { code } : { code, message });

test('a new snapshot has the time given, to the nanosecond, as both of its times', () => {
  create('a');
  expect(store.get('a')).toMatchObject({
    parent: '',
    kind: 'active',
    created: 1_800_000_000_123_456_789n,
    updated: 1_800_000_000_123_456_789n,
    labels: { from: 'a' },
  });
});

test('an unknown key is NotFound everywhere', () => {
  for (const call of [
    () => store.get('x'),
    () => store.remove('x'),
    () => store.commit('y', 'x', {}, 1n),
    () => store.update('x', {}, [], 1n),
  ])
    expect(call).toThrow(fails(Code.notFound));
});

test('a parent must exist and be committed', () => {
  create('active');
  expect(() => create('b', 'missing')).toThrow(fails(Code.notFound));
  expect(() => create('b', 'active')).toThrow(fails(Code.invalidArgument));
  expect(store.find('b')).toBeUndefined();
});

test('a key or name is given once', () => {
  committed('base');
  create('a', 'base');
  expect(() => create('a', 'base')).toThrow(fails(Code.alreadyExists));
  expect(() => create('a', 'base', 'view')).toThrow(fails(Code.alreadyExists));
  expect(() => store.commit('base', 'a', {}, 1n)).toThrow(fails(Code.alreadyExists));
  expect(store.get('a').kind).toBe('active');
});

test('commit renames, replaces the labels and keeps the directory', () => {
  const active = create('key');
  const done = store.commit('name', 'key', { l: '1' }, 42n);
  expect(done).toMatchObject({ kind: 'committed', created: 42n, updated: 42n, labels: { l: '1' } });
  expect(done.directory.id).toBe(active.directory.id);
  expect(store.find('key')).toBeUndefined();
});

test('only an active snapshot can be committed', () => {
  committed('base');
  create('view', 'base', 'view');
  expect(() => store.commit('c', 'view', {}, 1n)).toThrow(fails(Code.failedPrecondition));
  expect(() => store.commit('c', 'base', {}, 1n)).toThrow(fails(Code.failedPrecondition));
});

test('a snapshot with a child stays', () => {
  committed('base');
  create('child', 'base');
  expect(() => store.remove('base')).toThrow(
    fails(Code.failedPrecondition, 'Cannot remove snapshot "base" with child'),
  );
  store.remove('child');
  expect(store.remove('base').directory).toBeTypeOf('number');
  expect(committed('base').name).toBe('base');
});

test('a directory id is never given twice', () => {
  const first = create('a').directory.id;
  store.remove('a');
  expect(create('a').directory.id).toBeGreaterThan(first);
});

test('a store that was opened again gives no directory id anew', () => {
  const { id } = create('a').directory;
  store.remove('a');
  store.close();
  store = new SnapshotStore(join(dir, 'meta.db'));
  expect(store.reserveDirectory()).toBeGreaterThan(id);
  expect(store.reserveDirectory(1000)).toBe(1001);
  expect(store.reserveDirectory()).toBe(1002);
});

test('a label with an empty value is none, however it was set', () => {
  const labels = { kept: 'x', empty: '' };
  store.create({ name: 'a', parent: '', kind: 'active', labels, now: 1n }, own());
  expect(store.get('a').labels).toEqual({ kept: 'x' });
  expect(store.update('a', { kept: '', new: 'y' }, ['labels.kept', 'labels.new'], 2n).labels).toEqual({
    new: 'y',
  });
  expect(store.update('a', labels, [], 3n).labels).toEqual({ kept: 'x' });
  expect(store.commit('b', 'a', labels, 4n).labels).toEqual({ kept: 'x' });
});

test('ancestors come nearest first', () => {
  committed('1');
  committed('2', '1');
  committed('3', '2');
  create('top', '3');
  expect(store.ancestors('top').map((s) => s.name)).toEqual(['3', '2', '1']);
  expect(store.ancestors('1')).toEqual([]);
});

test('a shared directory goes with its last snapshot', () => {
  const first = committed('a');
  store.create(
    { name: 'b', parent: '', kind: 'committed', labels: {}, now: 1n },
    { kind: 'shared', id: first.directory.id },
  );
  expect(store.remove('a').directory).toBeUndefined();
  expect(store.remove('b').directory).toBe(first.directory.id);
});

test('the last layer of a checkpoint is told when it goes', () => {
  const layer = (name: string, parent: string) =>
    store.create(
      { name, parent, kind: 'committed', labels: {}, now: 1n },
      { ...own(), checkpoint: 'sha256:cp' },
    );
  layer('index', '');
  layer('data', 'index');
  expect(store.withCheckpoint('sha256:cp').map((s) => s.name)).toEqual(['index', 'data']);
  expect(store.remove('data').cached).toBeUndefined();
  expect(store.remove('index').cached).toBe('sha256:cp');
});

test('a proven layer digest is recorded once', () => {
  const { directory } = committed('a');
  store.setDiffId(directory.id, 'sha256:1');
  store.setDiffId(directory.id, 'sha256:2');
  expect(store.committedLayers().map((s) => [s.name, s.directory.diffId])).toEqual([['a', 'sha256:1']]);
});

test('committed snapshots are found by the end of a namespaced name', () => {
  committed('ns/1/sha256:x');
  committed('sha256:x', 'ns/1/sha256:x');
  committed('ns/2/asha256:x');
  create('ns/3/sha256:x');
  expect(store.committedAs('sha256:x').map((s) => s.name)).toEqual(['ns/1/sha256:x', 'sha256:x']);
});

test('usage is unknown until it is set', () => {
  const { directory } = create('a');
  expect(store.usage(directory.id)).toBeUndefined();
  store.setUsage(directory.id, { size: 1n << 60n, inodes: 3n });
  expect(store.usage(directory.id)).toEqual({ size: 1n << 60n, inodes: 3n });
});

test('a listing shows the moment it was opened and blocks no other call', () => {
  for (const name of ['a', 'b', 'c']) create(name);
  const listing = store.list();
  expect(listing.next(2).map((s) => s.name)).toEqual(['a', 'b']);
  store.remove('c');
  create('d');
  expect(store.get('d').name).toBe('d');
  expect(listing.next(2).map((s) => s.name)).toEqual(['c']);
  expect(listing.next(2)).toEqual([]);
  listing.close();
});

test('everything is there after the store is opened again', () => {
  const before = committed('a');
  store.close();
  store = new SnapshotStore(join(dir, 'meta.db'));
  expect(store.get('a')).toEqual(before);
});

test('a store of a newer version is refused and left alone', () => {
  const path = join(dir, 'newer.db');
  const db = new Database(path);
  db.pragma('user_version = 9');
  db.close();
  expect(() => new SnapshotStore(path)).toThrow(fails(Code.failedPrecondition));
});

test('update keeps the creation time', () => {
  const { created } = create('a');
  const updated = store.update('a', { x: '1' }, [], created + 5n);
  expect(updated).toMatchObject({ created, updated: created + 5n, labels: { x: '1' } });
});

test('a label mask sets, removes and replaces', () => {
  const now = { l1: 'a', l2: 'b', l3: 'c' };
  expect(updateLabels(now, { l1: 'x', l2: 'y' }, ['labels.l1', 'labels.l3'])).toEqual({ l1: 'x', l2: 'b' });
  expect(updateLabels(now, { n: '1' }, ['labels'])).toEqual({ n: '1' });
  expect(updateLabels(now, { n: '1' }, [])).toEqual({ n: '1' });
  expect(() => updateLabels(now, {}, ['labels.l1', 'parent'])).toThrow(
    fails(Code.invalidArgument, 'cannot update "parent" field: only labels of a snapshot can change'),
  );
});

test('a store of version 1 is taken over, with its snapshots', () => {
  const before = committed('a');
  store.close();
  const path = join(dir, 'meta.db');
  const db = new Database(path);
  db.exec('DROP INDEX directories_layer; ALTER TABLE directories DROP COLUMN layer');
  db.pragma('user_version = 1');
  db.close();
  store = new SnapshotStore(path);
  expect(store.get('a')).toEqual(before);
  const directory = { kind: 'own', id: store.reserveDirectory(), layer: 'sha256:l' } as const;
  store.create({ name: 'lazy', parent: 'a', kind: 'committed', labels: {}, now: clock }, directory);
  expect(store.lazyLayers().map(({ name }) => name)).toEqual(['lazy']);
  expect(store.withCached('sha256:l').map(({ name }) => name)).toEqual(['lazy']);
  expect(store.remove('lazy').cached).toBe('sha256:l');
});
