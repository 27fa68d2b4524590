/**
 * What containerd's metadata store and overlayfs do beyond the cases of SnapshotterSuite: labels, filters, usage, times,
 * names. Sources: containerd, core/snapshots/storage/bolt.go, pkg/filters, plugins/snapshots/overlay.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { mountAll, unmount, withMounts } from './mount.ts';
import type { SnapshotsClient } from './snapshots-client.ts';
import type { Subject } from './snapshotter-suite.ts';

/** Without this label containerd's garbage collector may take a snapshot between two calls. */
const root = { 'containerd.io/gc.root': '2026' };
const failsWith = (code: Code) => expect.objectContaining({ code });

/** `start` gives a snapshotter without snapshots for each test. */
export function snapshotterContract(start: () => Promise<Subject>): void {
  let subject: Subject;
  let client: SnapshotsClient;
  let work: string;
  beforeEach(async () => {
    subject = await start();
    client = subject.client;
    work = mkdtempSync(join(subject.work, 'contract-'));
  });
  afterEach(async () => {
    await subject.close();
    rmSync(work, { recursive: true, force: true });
  });

  const labelsOf = async (name: string) => {
    const { 'containerd.io/gc.root': _, ...labels } = (await client.stat(name)).labels;
    return labels;
  };
  const commit = async (name: string, parent = '') => {
    await client.prepare(`key of ${name}`, parent, root);
    await client.commit(name, `key of ${name}`, root);
  };

  describe('labels', () => {
    it('with an empty value are none', async () => {
      await client.prepare('a', '', { ...root, kept: 'x', empty: '' });
      expect(await labelsOf('a')).toEqual({ kept: 'x' });
      await client.update({ name: 'a', parent: '', labels: { ...root, kept: '', new: 'y' } });
      expect(await labelsOf('a')).toEqual({ new: 'y' });
      await client.update({ name: 'a', parent: '', labels: { new: '' } }, 'labels.new');
      expect(await labelsOf('a')).toEqual({});
      await client.commit('b', 'a', { ...root, empty: '' });
      expect(await labelsOf('b')).toEqual({});
    });

    it('of an active snapshot are not inherited by the committed one', async () => {
      await client.prepare('a', '', { ...root, of: 'active' });
      await client.commit('b', 'a', root);
      expect(await labelsOf('b')).toEqual({});
    });

    it('whose names have dots are set one by one', async () => {
      await client.prepare('a', '', { ...root, 'x.y/z': '1', x: '2' });
      await client.update({ name: 'a', parent: '', labels: { 'x.y/z': '3' } }, 'labels.x.y/z', 'labels.x');
      expect(await labelsOf('a')).toEqual({ 'x.y/z': '3' });
    });

    it('stay as they are where a mask names what cannot change', async () => {
      await client.prepare('a', '', { ...root, l: '1' });
      const before = await client.stat('a');
      for (const path of ['parent', 'name', 'kind', 'created_at', 'label', '', 'labels'.toUpperCase()])
        await expect(
          client.update({ name: 'a', parent: 'x', labels: { l: '2' } }, 'labels.l', path),
          path,
        ).rejects.toEqual(failsWith(Code.invalidArgument));
      expect(await client.stat('a')).toEqual(before);
    });
  });

  describe('times', () => {
    it('are set anew by Commit, and only the second of them by Update', async () => {
      await client.prepare('a', '', root);
      const active = await client.stat('a');
      await client.commit('b', 'a', root);
      const committed = await client.stat('b');
      expect(committed.created).toBeGreaterThan(active.created);
      expect(committed.updated).toBe(committed.created);
      const updated = await client.update({ name: 'b', parent: '', labels: root });
      expect(updated.created).toBe(committed.created);
      expect(updated.updated).toBeGreaterThan(committed.updated);
    });
  });

  describe('filters', () => {
    const cases: [string[], string[]][] = [
      [['labels.l'], ['a', 'b']],
      [['labels."l"==one'], ['a']],
      [['labels.l!=one'], ['b', 'base', 'v']],
      [['labels.absent!=""'], []],
      [['labels.absent==""'], []],
      [['labels.absent~=/^$/'], ['a', 'b', 'base', 'v']],
      [['labels.l~=/^o/'], ['a']],
      [['labels.l~=|o|'], ['a', 'b']],
      [['labels.l~="^t"'], ['b']],
      [['labels.l~=ne'], ['a']],
      [['name~=/(/'], []],
      // Of Go alone, and of JavaScript alone.
      [['name~=/(?i)^B$/'], ['b']],
      [['name~="^\\\\pL$"'], ['a', 'b', 'v']],
      [['name~=/^(?=a)/'], []],
      [['name~="(s)\\\\1"'], []],
      [['labels.x.y'], ['b']],
      [['labels."x.y"=="a b"'], ['b']],
      [['labels."x"."y"=="a\\x20b"'], ['b']],
      [['kind==view'], ['v']],
      [
        ['kind==committed', 'kind==view'],
        ['base', 'v'],
      ],
      [['kind~=/^(view|active)$/'], ['a', 'b', 'v']],
      [['parent==base'], ['a', 'v']],
      [['parent'], ['a', 'b', 'base', 'v']],
      [['created'], []],
      [['name==a,labels.l==two'], []],
      [[''], ['a', 'b', 'base', 'v']],
      [
        ['name==b', ''],
        ['a', 'b', 'base', 'v'],
      ],
      [[' name == b'], ['b']],
    ];
    beforeEach(async () => {
      await commit('base');
      await client.prepare('a', 'base', { ...root, l: 'one' });
      await client.prepare('b', '', { ...root, l: 'two', 'x.y': 'a b' });
      await client.view('v', 'base', root);
    });
    it('select the same snapshots', async () => {
      for (const [filters, expected] of cases)
        expect((await client.list(...filters)).map(({ name }) => name).sort(), filters.join(' or ')).toEqual(
          expected,
        );
    });
    it('that cannot be parsed are refused', async () => {
      for (const filter of [
        'name==',
        'name=a',
        'name===a',
        'name=~a',
        'name==/a/',
        'name==|a|',
        'name=="a',
        'name=="\\q"',
        'name~=/\\d/',
        'labels.a-b==x',
        'labels.',
        'name,',
        ',name',
        'name a',
        '*',
      ])
        await expect(client.list(filter), filter).rejects.toThrow(/filter|parse|expected|quot|operator/i);
    });
  });

  describe('usage', () => {
    it('is counted for an active snapshot, kept for a committed one, and nothing for a view', async () => {
      await withMounts(await client.prepare('a', '', root), join(work, 'mnt'), (dir) =>
        writeFileSync(join(dir, 'file'), Buffer.alloc(300_000, 1)),
      );
      const active = await client.usage('a');
      expect(active.inodes).toBe(2n);
      expect(active.size).toBeGreaterThanOrEqual(300_000n);
      await client.commit('b', 'a', root);
      expect(await client.usage('b')).toEqual(active);
      await client.view('v', 'b', root);
      expect(await client.usage('v')).toEqual({ size: 0n, inodes: 0n });
      await client.prepare('c', 'b', root);
      expect((await client.usage('c')).inodes).toBe(1n);
    });
  });

  describe('names', () => {
    it('are any text', async () => {
      const names = ['a/b/../c', 'with space', 'sha256:0', 'ü🙂', '.', '..', 'x'.repeat(3_000), "';--"];
      for (const name of names) {
        await client.prepare(`${name} key`, '', root);
        await client.commit(name, `${name} key`, root);
        expect((await client.stat(name)).name).toBe(name);
      }
      expect(new Set((await client.list()).map(({ name }) => name))).toEqual(new Set(names));
      for (const name of names) await client.remove(name);
      expect(await client.list()).toEqual([]);
    });
  });

  describe('mounts', () => {
    it('are answered again as they were first', async () => {
      await commit('base');
      await commit('layer', 'base');
      const prepared = await client.prepare('active', 'layer', root);
      const viewed = await client.view('view', 'layer', root);
      expect(await client.mounts('active')).toEqual(prepared);
      expect(await client.mounts('view')).toEqual(viewed);
      const sorted = (options: readonly string[]) => options.map((o) => o.split('=')[0]).sort();
      // containerd adds options for the kernel at hand; nothing else may differ from one snapshotter to another.
      const optional = new Set(['index', 'userxattr', 'metacopy']);
      const named = (mounts: typeof prepared) =>
        mounts.map(({ type, source, options }) => [
          type,
          source,
          sorted(options).filter((o) => !optional.has(o ?? '')),
        ]);
      expect(named(prepared)).toEqual([['overlay', 'overlay', ['lowerdir', 'upperdir', 'workdir']]]);
      expect(named(viewed)).toEqual([['overlay', 'overlay', ['lowerdir']]]);
      const [bind] = await client.view('one', 'base', root);
      expect(bind).toMatchObject({ type: 'bind', options: ['ro', 'rbind'] });
      const [own] = await client.prepare('own', '', root);
      expect(own).toMatchObject({ type: 'bind', options: ['rw', 'rbind'] });
    });

    it('of a removed snapshot go on', async () => {
      const target = join(work, 'mnt');
      await commit('base');
      mountAll(await client.prepare('a', 'base', root), target);
      try {
        writeFileSync(join(target, 'file'), 'x');
        await client.remove('a');
        expect(readFileSync(join(target, 'file'), 'utf8')).toBe('x');
      } finally {
        unmount(target);
      }
    });
  });

  describe('calls at once', () => {
    it('give a key and a name to one of many', async () => {
      const won = async (calls: Promise<unknown>[]) => {
        const results = await Promise.allSettled(calls);
        for (const result of results)
          if (result.status === 'rejected') expect(result.reason).toEqual(failsWith(Code.alreadyExists));
        return results.filter(({ status }) => status === 'fulfilled').length;
      };
      const many = Array.from({ length: 10 }, (_, i) => i);
      expect(await won(many.map(() => client.prepare('key', '', root)))).toBe(1);
      for (const i of many) await client.prepare(`k${i}`, '', root);
      expect(await won(many.map((i) => client.commit('name', `k${i}`, root)))).toBe(1);
      expect((await client.list('kind==active')).length).toBe(10);
    });

    it('remove a snapshot once', async () => {
      await client.prepare('a', '', root);
      const results = await Promise.allSettled(Array.from({ length: 10 }, () => client.remove('a')));
      expect(results.filter(({ status }) => status === 'fulfilled').length).toBe(1);
      for (const result of results)
        if (result.status === 'rejected') expect(result.reason).toEqual(failsWith(Code.notFound));
    });
  });
}
