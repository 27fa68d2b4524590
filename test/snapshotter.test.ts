/** thaw-snapshotter by itself, over its sockets and with real mounts. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../proto/status.ts';
import { withMounts } from './conformance/mount.ts';
import { SnapshotsClient } from './conformance/snapshots-client.ts';
import { snapshotterContract } from './conformance/snapshotter-contract.ts';
import { snapshotterErrorTable } from './conformance/snapshotter-errors.ts';
import { type Subject, snapshotterSuite } from './conformance/snapshotter-suite.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import {
  assertNothingLeft,
  Containerd,
  type Leftovers,
  privateDir,
  run,
  takeStock,
  until,
} from './lib/index.ts';

/** Each part of them starts what it is about for each of its own cases only. */
function demands(start: () => Promise<Subject>): void {
  describe('suite', () => snapshotterSuite(start));
  snapshotterErrorTable(start);
  describe('contract', () => snapshotterContract(start));
}

describe('thaw-snapshotter as containerd demands', () => {
  let thaw: ThawDaemon;
  beforeAll(async () => {
    thaw = await ThawDaemon.start();
  });
  afterAll(() => thaw.stop());
  demands(async () => {
    const client = new SnapshotsClient(thaw.socket);
    return {
      client,
      work: privateDir('work'),
      close: async () => {
        client.close();
        // One of its own, as a case may have closed the other.
        const cleaner = new SnapshotsClient(thaw.socket);
        await cleaner.removeAll();
        cleaner.close();
      },
    };
  });
});

describe("containerd's own overlayfs, which proves the tests", () => {
  let containerd: Containerd;
  let count = 0;
  beforeAll(async () => {
    containerd = await Containerd.start();
  });
  afterAll(() => containerd.stop());
  demands(async () => {
    // A namespace of its own is as good as a snapshotter of its own.
    const client = new SnapshotsClient(containerd.socket, {
      snapshotter: 'overlayfs',
      namespace: `suite-${count++}`,
    });
    return { client, work: privateDir('work'), close: async () => client.close() };
  });
});

describe('thaw-snapshotter', () => {
  let before: Leftovers;
  let thaw: ThawDaemon;
  let client: SnapshotsClient;
  const snapshots = () => readdirSync(join(thaw.root, 'snapshots')).sort();

  beforeEach(async () => {
    before = takeStock();
    thaw = await ThawDaemon.start();
    client = new SnapshotsClient(thaw.socket);
  });
  afterEach(async () => {
    client.close();
    await thaw.stop();
    await assertNothingLeft(before);
  });

  it('lets only root at its sockets and files', () => {
    for (const path of [thaw.socket, thaw.thawSocket]) expect(statSync(path).mode & 0o777).toBe(0o600);
    for (const path of [thaw.root, join(thaw.root, 'snapshots'), join(thaw.root, 'cache')])
      expect(statSync(path).mode & 0o777).toBe(0o700);
    expect(statSync(join(thaw.root, 'meta.db')).mode & 0o777).toBe(0o600);
  });

  it('gives a new layer the owner and mode of the one below', async () => {
    await withMounts(await client.prepare('key', ''), join(thaw.state, 'mnt'), async (root) => {
      await run('chown', ['7:8', root]);
      await run('chmod', ['1751', root]);
    });
    await client.commit('layer', 'key');
    await withMounts(await client.prepare('above', 'layer'), join(thaw.state, 'mnt'), (root) => {
      const { uid, gid, mode } = statSync(root);
      expect([uid, gid, mode & 0o7777]).toEqual([7, 8, 0o1751]);
    });
  });

  it('counts bytes and inodes of a layer alone', async () => {
    await withMounts(await client.prepare('key', ''), join(thaw.state, 'mnt'), (root) =>
      writeFileSync(join(root, 'file'), Buffer.alloc(100_000, 1)),
    );
    const active = await client.usage('key');
    expect(active.inodes).toBe(2n);
    expect(active.size).toBeGreaterThanOrEqual(100_000n);
    await client.commit('layer', 'key');
    expect(await client.usage('layer')).toEqual(active);
    await client.prepare('above', 'layer');
    expect((await client.usage('above')).inodes).toBe(1n);
  });

  it('lists in batches of a hundred, as of the moment it was asked', async () => {
    await Promise.all(Array.from({ length: 250 }, (_, i) => client.prepare(`key-${i}`, '')));
    let first = true;
    const seen: string[] = [];
    const batches = await client.walk(async ({ name }) => {
      seen.push(name);
      if (!first) return;
      first = false;
      await client.remove('key-249');
      await client.prepare('later', '');
    });
    expect(batches).toEqual([100, 100, 50]);
    expect(new Set(seen)).toEqual(new Set(Array.from({ length: 250 }, (_, i) => `key-${i}`)));
    expect((await client.list()).length).toBe(250);
  });

  it('gives a key to one of many who ask at once, and leaves nothing of the others', async () => {
    const asked = await Promise.allSettled(Array.from({ length: 20 }, () => client.prepare('key', '')));
    expect(asked.filter(({ status }) => status === 'fulfilled').length).toBe(1);
    for (const result of asked)
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: Code.alreadyExists });
    await until('the losers to be gone', () => snapshots().length === 1);
  });

  // containerd's own List gives no code, only the text.
  it('names the place of a mistake in a filter', async () => {
    for (const filter of ['name===x', 'name==/x/', 'name==', 'labels."x'])
      await expect(client.list(filter), filter).rejects.toMatchObject({
        code: Code.invalidArgument,
        details: expect.stringContaining('>|'),
      });
  });

  it('refuses to commit onto another parent, which it never offered', async () => {
    await client.prepare('key', '');
    await expect(client.commit('layer', 'key', {}, 'base')).rejects.toMatchObject({
      code: Code.invalidArgument,
    });
  });

  it('deletes what was removed, and Cleanup waits for that', async () => {
    const mounts = await client.prepare('key', '');
    writeFileSync(join(mounts[0]?.source ?? '', 'file'), 'x');
    await client.remove('key');
    await client.cleanup();
    expect(snapshots()).toEqual([]);
  });

  it('keeps everything over kill -9, and removes what no row names', async () => {
    await client.prepare('key', '', { l: 'v' });
    await client.commit('layer', 'key', { l: 'w' });
    await client.prepare('active', 'layer');
    const known = await client.list();
    await thaw.kill();
    for (const name of ['77', 'new-half-made', 'gone-half-deleted'])
      await run('mkdir', ['-p', join(thaw.root, 'snapshots', name, 'fs/deep')]);
    await thaw.restart();
    expect(await client.list()).toEqual(known);
    await until('orphans to be gone', () => snapshots().length === 2);
    await withMounts(await client.mounts('active'), join(thaw.state, 'mnt'), (root) =>
      writeFileSync(join(root, 'file'), 'x'),
    );
  });

  it('survives kill -9 in the middle of many calls with store and disk in agreement', async () => {
    for (let round = 0; round < 3; round++) {
      const calls = Array.from({ length: 60 }, async (_, i) => {
        const key = `${round}-${i}`;
        await client.prepare(key, '');
        if (i % 3 === 0) await client.commit(`layer-${key}`, key);
        if (i % 3 === 1) await client.remove(key);
      });
      const all = Promise.allSettled(calls);
      await new Promise((resolve) => setTimeout(resolve, 40 + round * 60));
      await thaw.kill();
      await all;
      await thaw.restart();
      const listed = await until('the daemon to answer', () => client.list());
      await client.cleanup();
      // Every row has its directory, and every directory its row.
      expect(snapshots().length).toBe(listed.length);
      for (const { name, kind } of listed)
        if (kind !== 'committed') {
          const [mount] = await client.mounts(name);
          expect(existsSync(mount?.source ?? ''), name).toBe(true);
        }
    }
  });

  it('does not start twice on one root, nor with a key it does not know', async () => {
    const twice = await run('thaw-snapshotter', [...thaw.arguments, '--state', `${thaw.state}/other`], {
      allowFailure: true,
      timeoutMs: 10_000,
    });
    expect(twice.code).toBe(1);
    expect(twice.stdout).toContain('another thaw-snapshotter runs on it');
    expect(await client.list()).toEqual([]);

    const config = join(thaw.state, 'bad.toml');
    writeFileSync(config, '[fetch]\nconections = 3\n');
    const typo = await run('thaw-snapshotter', ['--config', config], {
      allowFailure: true,
      timeoutMs: 10_000,
    });
    expect(typo.code).toBe(1);
    expect(typo.stdout).toContain('unknown key \\"fetch.conections\\"');
  });

  it('takes the place of a daemon that died, and ends at once when told to', async () => {
    await thaw.kill();
    expect(existsSync(thaw.socket)).toBe(true);
    await thaw.restart();
    await until('the new daemon to answer', async () => (await client.list()) !== undefined);
    await thaw.halt();
    expect(readFileSync(thaw.log, 'utf8')).toContain('"msg":"stopped"');
    await thaw.restart();
  });
});
