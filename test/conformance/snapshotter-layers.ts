/** The cases of containerd's SnapshotterSuite about what layers show when they lie on each other. */
import { mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { withMounts } from './mount.ts';
import type { SnapshotsClient } from './snapshots-client.ts';
import {
  apply,
  baseTree,
  type Change,
  chown,
  createDir,
  createFile,
  link,
  readTree,
  removeAll,
  rename,
} from './tree.ts';

/** Without this label containerd's garbage collector may take a snapshot between two calls. */
export const labels = { 'containerd.io/gc.root': new Date().toISOString() };

/** `at`: what a test has, made before each. */
export function layerCases(at: { readonly client: SnapshotsClient; readonly work: string }): void {
  const path = (name: string) => join(at.work, name);

  /** Applies each change to a layer of its own; after each, the layer shows what a plain directory would. */
  const checkLayers = async (...changes: Change[]) => {
    const plain = mkdtempSync(path('plain-'));
    let parent = '';
    for (const [i, change] of changes.entries()) {
      const id = `${plain.slice(-6)}-${i}`;
      const key = path(`active-${id}`);
      const name = path(`layer-${id}`);
      await withMounts(await at.client.prepare(key, parent, labels), path(`mnt-${id}`), (root) => {
        expect(withoutRoot(readTree(root)), `layer ${i} before its change`).toEqual(
          withoutRoot(readTree(plain)),
        );
        change(root);
        change(plain);
        expect(withoutRoot(readTree(root)), `layer ${i} after its change`).toEqual(
          withoutRoot(readTree(plain)),
        );
      });
      await at.client.commit(name, key, labels);
      await withMounts(await at.client.view(`${key}-view`, name, labels), path(`view-${id}`), (root) =>
        expect(withoutRoot(readTree(root)), `layer ${i} in a view`).toEqual(withoutRoot(readTree(plain))),
      );
      await at.client.remove(`${key}-view`);
      parent = name;
    }
  };

  it('LayerFileupdate', async () => {
    const first = apply(
      baseTree,
      createDir('/etc', 0o700),
      createFile('/etc/hosts', 'mydomain 10.0.0.1', 0o644),
      createFile('/etc/profile', 'PATH=/usr/bin', 0o644),
    );
    const second = apply(
      createFile('/etc/hosts', 'mydomain 10.0.0.2', 0o644),
      createFile('/etc/profile', 'PATH=/usr/bin', 0o666),
      createDir('/root', 0o700),
      createFile('/root/.bashrc', 'PATH=/usr/sbin:/usr/bin', 0o644),
    );
    for (let i = 0; i < 5; i++) await checkLayers(first, second);
  });

  it('RemoveDirectoryInLowerLayer', async () => {
    await checkLayers(
      apply(createDir('/lib', 0o700), createFile('/lib/hidden', '', 0o644), baseTree),
      apply(removeAll('/lib'), createDir('/lib', 0o700), createFile('/lib/not-hidden', '', 0o644)),
      createFile('/lib/newfile', '', 0o644),
    );
  });

  it('Chown', async () => {
    await checkLayers(
      apply(createDir('/opt/a/b', 0o700), createFile('/opt/a/b/file.txt', 'hello', 0o644)),
      apply(
        chown('/opt', 1, 1),
        chown('/opt/a', 1, 1),
        chown('/opt/a/b', 1, 1),
        chown('/opt/a/b/file.txt', 1, 1),
      ),
    );
  });

  it('DirectoryPermissionOnCommit', async () => {
    await checkLayers(
      apply(
        ...['/dir1', '/dir2', '/dir3', '/dir4', '/dir5'].map((dir) => createDir(dir, 0o700)),
        createFile('/dir4/f1', '...', 0o644),
        createFile('/dir5/f1', '...', 0o644),
        ...['/dir1', '/dir2', '/dir3', '/dir5', '/dir5/f1'].map((name) => chown(name, 1, 1)),
      ),
      apply(chown('/dir2', 0, 0), removeAll('/dir3'), chown('/dir4', 1, 1), chown('/dir4/f1', 1, 1)),
      apply(
        createDir('/dir3', 0o700),
        chown('/dir3', 1, 1),
        removeAll('/dir5'),
        createDir('/dir5', 0o700),
        chown('/dir5', 1, 1),
      ),
    );
  });

  it('DeletedFilesInChildSnapshot', async () => {
    await checkLayers(
      apply(createFile('/foo', 'foo\n', 0o777), createFile('/foobar', 'foobar\n', 0o777)),
      removeAll('/foobar'),
      () => {},
    );
  });

  it('MoveFileFromLowerLayer', async () => {
    await checkLayers(
      apply(
        createDir('/dir1', 0o700),
        createFile('/dir1/f1', 'Hello', 0o644),
        createDir('/dir2', 0o700),
        createFile('/dir2/f2', '...', 0o644),
      ),
      apply(
        createDir('/dir3', 0o700),
        createFile('/dir3/f1', 'Hello', 0o644),
        removeAll('/dir1'),
        link('/dir2/f2', '/dir3/f2'),
        removeAll('/dir2/f2'),
      ),
    );
  });

  // containerd's own case also renames a directory of a lower layer; overlay answers EXDEV to that, as documented.
  it('Rename', async () => {
    await checkLayers(
      apply(
        createDir('/somefiles', 0o700),
        createFile('/somefiles/f1', 'was here first!', 0o644),
        createFile('/somefiles/f2', 'nothing interesting', 0o644),
        baseTree,
      ),
      apply(
        createFile('/somefiles/f1-overwrite', 'new content 1', 0o644),
        rename('/somefiles/f1-overwrite', '/somefiles/f1'),
        rename('/somefiles/f2', '/somefiles/f3'),
      ),
    );
  });

  it('128LayersMount', async () => {
    const plain = path('plain');
    mkdirSync(plain);
    let parent = '';
    for (let i = 0; i < 128; i++) {
      const key = path(`prepare-${i}`);
      const change = createFile(`/layer-${i}`, `${i}`, 0o777);
      await withMounts(await at.client.prepare(key, parent, labels), path('layer'), (root) => change(root));
      change(plain);
      await at.client.commit(path(`${i}`), key, labels);
      parent = path(`${i}`);
    }
    const mounts = await at.client.view(path('view'), parent, labels);
    // containerd shortens long options by changing to the directory that all of them share.
    const lower = mounts[0]?.options.find((option) => option.startsWith('lowerdir='))?.slice(9) ?? '';
    const parents = new Set(lower.split(':').map((dir) => dir.replace(/\/\d+\/fs$/, '')));
    expect(parents.size).toBe(1);
    await withMounts(mounts, path('view-mount'), (root) =>
      expect(withoutRoot(readTree(root))).toEqual(withoutRoot(readTree(plain))),
    );
  });
}

/** The root directory's own mode is the snapshotter's (RootPermission looks at it); a plain folder has another. */
export function withoutRoot({ '/': _, ...rest }: Record<string, string>): Record<string, string> {
  return rest;
}
