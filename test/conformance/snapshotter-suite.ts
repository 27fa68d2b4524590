/**
 * What containerd demands of a snapshotter: the 21 cases of its own SnapshotterSuite, in our words.
 * Source: containerd, core/snapshots/testsuite (2.x), snapshots/testsuite (1.6).
 */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { mountAll, unmount, withMounts } from './mount.ts';
import type { Info, SnapshotsClient } from './snapshots-client.ts';
import { labels, layerCases, withoutRoot } from './snapshotter-layers.ts';
import { apply, type Change, createDir, createFile, readTree, removeAll } from './tree.ts';

export interface Subject {
  client: SnapshotsClient;
  /** A folder of the test's own on a real disk. */
  work: string;
  close: () => Promise<void>;
}

const failsWith = (code: Code) => expect.objectContaining({ code });

/** `start` gives a snapshotter without snapshots for each test. */
export function snapshotterSuite(start: () => Promise<Subject>): void {
  let subject: Subject;
  let client: SnapshotsClient;
  let work: string;
  let mounted: string[];

  beforeEach(async () => {
    mounted = [];
    subject = await start();
    client = subject.client;
    work = mkdtempSync(join(subject.work, 'suite-'));
  });
  afterEach(async () => {
    for (const target of mounted.reverse()) unmount(target);
    await subject.close();
    rmSync(work, { recursive: true, force: true });
  });

  const path = (name: string) => join(work, name);
  const mount = (mounts: Parameters<typeof mountAll>[0], target: string) => {
    mountAll(mounts, target);
    mounted.push(target);
  };
  const prepareMounted = async (name: string, parent: string) => {
    const key = path(name);
    mount(await client.prepare(key, parent, labels), key);
    return key;
  };

  it('Basic', async () => {
    const first = apply(
      createFile('/foo', 'foo\n', 0o777),
      createDir('/a', 0o755),
      createDir('/a/b', 0o755),
      createDir('/a/b/c', 0o755),
    );
    const second = apply(
      createFile('/bar', 'bar\n', 0o777),
      createFile('/foo', 'bar\n', 0o777),
      removeAll('/a/b'),
    );
    const expected = (...changes: Change[]) => {
      const plain = mkdtempSync(path('plain-'));
      for (const change of changes) change(plain);
      return withoutRoot(readTree(plain));
    };
    const preparing = await prepareMounted('preparing', '');
    first(preparing);
    const committed = path('committed');
    await client.commit(committed, preparing, labels);
    const si = await client.stat(committed);
    expect(si).toMatchObject({ parent: '', kind: 'committed' });
    await expect(client.stat(preparing)).rejects.toEqual(failsWith(Code.notFound));

    const next = await prepareMounted('nextlayer', committed);
    expect(withoutRoot(readTree(next))).toEqual(expected(first));
    second(next);
    expect(await client.stat(next)).toMatchObject({ parent: committed, kind: 'active' });
    const nextCommitted = path('committed-next');
    await client.commit(nextCommitted, next, labels);
    const si2 = await client.stat(nextCommitted);
    expect(si2).toMatchObject({ parent: committed, kind: 'committed' });
    await expect(client.stat(next)).rejects.toEqual(failsWith(Code.notFound));

    const walked = new Map((await client.list()).map((info) => [info.name, info]));
    expect(walked.get(committed)).toEqual(si);
    expect(walked.get(nextCommitted)).toEqual(si2);

    const view = path('nextnextlayer');
    await withMounts(await client.view(view, nextCommitted, labels), path('view'), (root) =>
      expect(withoutRoot(readTree(root))).toEqual(expected(first, second)),
    );
    await client.remove(view);
    await expect(client.remove(committed)).rejects.toThrow(/remove/);
    await client.remove(nextCommitted);
    await client.remove(committed);
  });

  it('StatActive', async () => {
    const preparing = await prepareMounted('preparing', '');
    writeFileSync(join(preparing, 'foo'), 'foo\n');
    expect(await client.stat(preparing)).toMatchObject({ name: preparing, kind: 'active', parent: '' });
  });

  it('StatComitted', async () => {
    const preparing = await prepareMounted('preparing', '');
    writeFileSync(join(preparing, 'foo'), 'foo\n');
    await client.commit(path('committed'), preparing, labels);
    expect(await client.stat(path('committed'))).toMatchObject({
      name: path('committed'),
      kind: 'committed',
      parent: '',
    });
  });

  it('TransitivityTest', async () => {
    const preparing = await prepareMounted('preparing', '');
    writeFileSync(join(preparing, 'foo'), 'foo\n');
    await client.commit(path('snapA'), preparing, labels);
    const next = await prepareMounted('next', path('snapA'));
    writeFileSync(join(next, 'foo'), 'foo bar\n');
    await client.commit(path('snapB'), next, labels);
    const b = await client.stat(path('snapB'));
    expect((await client.stat(path('snapA'))).parent).toBe('');
    expect(b.parent).toBe(path('snapA'));
    expect((await client.stat(b.parent)).parent).toBe('');
  });

  it('PreareViewFailingtest', async () => {
    const preparing = await prepareMounted('preparing', '');
    const a = path('snapA');
    // Its mount is still there.
    await client.commit(a, preparing, labels);
    await client.prepare(path('newlayer'), a, labels);
    await expect(client.view(path('newlayer'), a, labels)).rejects.toEqual(failsWith(Code.alreadyExists));
    await client.prepare(path('prepLayer'), a, labels);
    await expect(client.prepare(path('prepLayer'), a, labels)).rejects.toEqual(failsWith(Code.alreadyExists));
    await client.view(path('viewLayer'), a, labels);
    await expect(client.view(path('viewLayer'), a, labels)).rejects.toEqual(failsWith(Code.alreadyExists));
  });

  /** c1 ← c2 ← a1 and v1; a2 and v2 without a parent. */
  const baseSnapshots = async () => {
    await client.prepare('c1-a', '', labels);
    await client.commit('c1', 'c1-a', labels);
    await client.prepare('c2-a', 'c1', labels);
    await client.commit('c2', 'c2-a', labels);
    await client.prepare('a1', 'c2', labels);
    await client.prepare('a2', '', labels);
    await client.view('v1', 'c2', labels);
    await client.view('v2', '', labels);
  };

  it('Update', async () => {
    const t1 = native.realtime();
    await baseSnapshots();
    const t2 = native.realtime();
    const cases: [string, Info['kind'], string][] = [
      ['c1', 'committed', ''],
      ['c2', 'committed', 'c1'],
      ['a1', 'active', 'c2'],
      ['a2', 'active', ''],
      ['v1', 'view', 'c2'],
      ['v2', 'view', ''],
    ];
    for (const [name, kind, parent] of cases) {
      const before = await client.stat(name);
      expect(before).toMatchObject({ name, kind, parent });
      expect(before.created >= t1 && before.created <= t2, `created of ${name}`).toBe(true);
      expect(before.updated).toBe(before.created);

      const all = { l1: 'v1', l2: 'v2', l3: 'v3', ...labels };
      const u1 = native.realtime();
      const full = await client.update({ ...before, parent: 'doesnotexist', labels: all });
      const u2 = native.realtime();
      expect(full).toMatchObject({ name, kind, parent, created: before.created, labels: all });
      expect(full.updated >= u1 && full.updated <= u2, `updated of ${name}`).toBe(true);

      const masked = await client.update(
        { ...full, labels: { l1: 'updated', l4: 'v4' } },
        'labels.l1',
        'labels.l2',
      );
      expect(masked.labels).toEqual({ l1: 'updated', l3: 'v3', ...labels });
      const replaced = await client.update({ ...masked, labels: { l4: 'v4', ...labels } }, 'labels');
      expect(replaced.labels).toEqual({ l4: 'v4', ...labels });
      expect(replaced.created).toBe(before.created);
      await expect(client.update({ ...replaced, parent: 'doesnotexist' }, 'parent')).rejects.toEqual(
        failsWith(Code.invalidArgument),
      );
    }
  });

  it('Remove', async () => {
    await client.prepare('committed-a', '', labels);
    await client.commit('committed-1', 'committed-a', labels);
    await client.prepare('reuse-1', 'committed-1', labels);
    await client.remove('reuse-1');
    await client.view('reuse-1', 'committed-1', labels);
    await client.remove('reuse-1');
    await client.prepare('reuse-1', '', labels);
    await client.remove('committed-1');
    await client.commit('committed-1', 'reuse-1', labels);
  });

  it('Walk', async () => {
    const add = { 'containerd.io/snapshot.type': 'x' };
    await baseSnapshots();
    await client.prepare('q1-a', 'c2', { ...labels, l: 'one', ...add });
    await client.commit('q1', 'q1-a', { ...labels, l: 'one', ...add });
    await client.prepare('q2', 'q1', { ...labels, l: 'one' });
    await client.view('q3', 'q1', { ...labels, l: '2' });
    const names = async (...filters: string[]) => (await client.list(...filters)).map((i) => i.name).sort();
    expect(await names('labels.l==one')).toEqual(['q1', 'q2']);
    expect(await names('kind==active,labels.l==one')).toEqual(['q2']);
    expect(await names('kind==view,labels.l')).toEqual(['q3']);
    expect(await names('kind==committed,labels.l==one')).toEqual(['q1']);
    expect(await names('name==q1', 'name==q2')).toEqual(['q1', 'q2']);
    expect(await names('name==q1,labels.l')).toEqual(['q1']);
    expect(await names('parent==q1')).toEqual(['q2', 'q3']);
    expect(await names('parent!="",labels.l')).toEqual(['q1', 'q2', 'q3']);
    expect(await names('labels.l')).toEqual(['q1', 'q2', 'q3']);
    expect(await names('labels.l==2')).toEqual(['q3']);
    expect(await names('labels."containerd.io/snapshot.type"==x,parent=="c2"')).toEqual(['q1']);
  });

  it('RemoveIntermediateSnapshot', async () => {
    const base = await prepareMounted('base', '');
    await client.commit(path('committed-base'), base, labels);
    await client.prepare(path('intermediate'), path('committed-base'), labels);
    await client.commit(path('committed-inter'), path('intermediate'), labels);
    await client.prepare(path('toplayer'), path('committed-inter'), labels);
    await expect(client.remove(path('committed-inter'))).rejects.toEqual(failsWith(Code.failedPrecondition));
    await expect(client.remove(path('committed-base'))).rejects.toEqual(failsWith(Code.failedPrecondition));
    await client.remove(path('toplayer'));
    await client.remove(path('committed-inter'));
    await client.remove(path('committed-base'));
  });

  it('ViewReadonly', async () => {
    await client.prepare(path('preparing'), '', labels);
    await client.commit(path('committed'), path('preparing'), labels);
    const mounts = await client.view(path('view'), path('committed'), labels);
    await withMounts(mounts, path('view-mount'), (root) =>
      expect(() => writeFileSync(join(root, 'testfile'), 'testcontent')).toThrow(/EROFS/),
    );
    await client.remove(path('view'));
    await client.remove(path('committed'));
  });

  it('StatInWalk', async () => {
    await baseSnapshots();
    let visited = 0;
    await client.walk(async (info) => {
      expect(await client.stat(info.name)).toEqual(info);
      visited++;
    });
    expect(visited).toBeGreaterThanOrEqual(6);
  });

  it('CloseTwice', async () => {
    await client.prepare('once-prepare', '', labels);
    await client.commit('once', 'once-prepare', labels);
    await client.remove('once');
    client.close();
    client.close();
  });

  it('RootPermission', async () => {
    const mask = process.umask(0);
    try {
      const preparing = await prepareMounted('preparing', '');
      expect(statSync(preparing).mode & 0o777).toBe(0o755);
    } finally {
      process.umask(mask);
    }
  });

  layerCases({
    get client() {
      return client;
    },
    get work() {
      return work;
    },
  });
}
