/** The codes of containerd's own metadata store (snapshots/storage/bolt.go), beyond what its suite asks for. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import type { SnapshotsClient } from './snapshots-client.ts';
import type { Subject } from './snapshotter-suite.ts';

const labels = { 'containerd.io/gc.root': new Date().toISOString() };

export function snapshotterErrorTable(start: () => Promise<Subject>): void {
  describe('error codes', () => {
    let subject: Subject;
    let client: SnapshotsClient;
    beforeEach(async () => {
      subject = await start();
      client = subject.client;
      await client.prepare('active', '', labels);
      await client.prepare('base-key', '', labels);
      await client.commit('base', 'base-key', labels);
      await client.view('view', 'base', labels);
    });
    afterEach(() => subject.close());

    const cases: [string, () => Promise<unknown>, Code][] = [
      ['Stat of an unknown key', () => client.stat('x'), Code.notFound],
      ['Remove of an unknown key', () => client.remove('x'), Code.notFound],
      ['Commit of an unknown key', () => client.commit('n', 'x'), Code.notFound],
      ['Usage of an unknown key', () => client.usage('x'), Code.notFound],
      ['Mounts of an unknown key', () => client.mounts('x'), Code.notFound],
      ['Update of an unknown key', () => client.update({ name: 'x', parent: '', labels }), Code.notFound],
      ['Mounts of a committed snapshot', () => client.mounts('base'), Code.failedPrecondition],
      ['Prepare on a missing parent', () => client.prepare('n', 'x'), Code.notFound],
      ['View of a missing parent', () => client.view('n', 'x'), Code.notFound],
      ['Prepare on an active parent', () => client.prepare('n', 'active'), Code.invalidArgument],
      ['View of an active parent', () => client.view('n', 'active'), Code.invalidArgument],
      ['Prepare on a view', () => client.prepare('n', 'view'), Code.invalidArgument],
      ['Prepare of a key that is taken', () => client.prepare('active', 'base'), Code.alreadyExists],
      ['Prepare of a name that is committed', () => client.prepare('base', ''), Code.alreadyExists],
      ['View of a key that is taken', () => client.view('view', 'base'), Code.alreadyExists],
      ['Commit to a name that is taken', () => client.commit('base', 'active'), Code.alreadyExists],
      ['Commit of a view', () => client.commit('n', 'view'), Code.failedPrecondition],
      ['Commit of a committed snapshot', () => client.commit('n', 'base'), Code.failedPrecondition],
      ['Remove with a child', () => client.remove('base'), Code.failedPrecondition],
    ];
    it.each(cases)('%s', async (_, call, code) => {
      await expect(call()).rejects.toMatchObject({ code });
    });
  });
}
