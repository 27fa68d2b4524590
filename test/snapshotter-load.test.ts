/** thaw-snapshotter with many snapshots and many clients: everything is answered, and right. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Code } from '../proto/status.ts';
import { type Info, SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { Disk } from './lib/disk.ts';
import { assertNothingLeft, type Leftovers, run, takeStock, until } from './lib/index.ts';

const CLIENTS = 64;
const SNAPSHOTS = process.env['THAW_FULL'] === '1' ? 10_000 : 2_000;
const EACH = Math.floor(SNAPSHOTS / CLIENTS);

let before: Leftovers;
let thaw: ThawDaemon;
let clients: SnapshotsClient[];

const connect = (count: number) => {
  clients = Array.from({ length: count }, () => new SnapshotsClient(thaw.socket));
};
const client = () => clients[0] as SnapshotsClient;
const directories = (root = thaw.root) => readdirSync(join(root, 'snapshots'));

beforeEach(() => {
  before = takeStock();
  clients = [];
});
afterEach(async () => {
  for (const each of clients) each.close();
  await thaw.stop();
  // umount's own folder stays.
  await assertNothingLeft(before, 5000, [/^files: \/run\/mount/]);
});

it(`keeps ${SNAPSHOTS} snapshots of ${CLIENTS} clients right while they are made, listed and removed`, async () => {
  thaw = await ThawDaemon.start({ log_level: 'info' });
  connect(CLIENTS);
  /** Layers, containers and views on top, as nodes have them: each client has chains of its own. */
  const expected = new Map<string, Pick<Info, 'parent' | 'kind' | 'labels'>>();
  await Promise.all(
    clients.map(async (mine, c) => {
      let parent = '';
      for (let i = 0; i < EACH; i++) {
        const name = `c${c}/${i}`;
        const labels = { client: `${c}`, number: `${i}` };
        const above = i % 8 === 0 ? '' : parent;
        switch (i % 4) {
          case 3:
            await mine.view(name, above, labels);
            expected.set(name, { parent: above, kind: 'view', labels });
            break;
          case 2:
            await mine.prepare(name, above, labels);
            expected.set(name, { parent: above, kind: 'active', labels });
            break;
          default:
            await mine.prepare(`${name} key`, above);
            await mine.commit(name, `${name} key`, labels);
            expected.set(name, { parent: above, kind: 'committed', labels });
            parent = name;
        }
      }
    }),
  );
  const shown = async (of: SnapshotsClient, ...filters: string[]) =>
    new Map(
      (await of.list(...filters)).map(({ name, parent, kind, labels }) => [name, { parent, kind, labels }]),
    );
  expect(await shown(client())).toEqual(expected);
  expect(directories().length).toBe(expected.size);

  // Every list is one moment: of a pair that is made and removed in turn there is never more or less than one.
  await client().prepare('turn-0', '');
  let turning = true;
  const turn = async () => {
    for (let i = 0; turning; i++) {
      await client().update({ name: `turn-${i}`, parent: '', labels: {} });
      await client().commit(`turn-${i + 1} layer`, `turn-${i}`);
      await client().remove(`turn-${i + 1} layer`);
      await client().prepare(`turn-${i + 1}`, '');
    }
  };
  const turned = turn();
  const lists = await Promise.all(
    clients.slice(1, 9).map(async (mine) => (await mine.list()).map(({ name }) => name)),
  );
  turning = false;
  await turned;
  for (const names of lists) {
    expect(names.filter((name) => !name.startsWith('turn')).length).toBe(expected.size);
    expect(names.filter((name) => name.startsWith('turn')).length).toBeLessThanOrEqual(1);
  }
  for (const { name } of await client().list('name~=/^turn/')) await client().remove(name);

  await Promise.all(
    clients.map(async (mine, c) => {
      const own = await mine.list(`labels.client=="${c}"`);
      expect(own.length).toBe(EACH);
      for (const info of own) {
        expect(await mine.stat(info.name)).toEqual(info);
        if (info.kind !== 'committed') expect((await mine.mounts(info.name)).length).toBe(1);
      }
      // Made in order, so children come last.
      for (const info of own.reverse()) await mine.remove(info.name);
    }),
  );
  expect(await client().list()).toEqual([]);
  await until('all directories to be gone', () => directories().length === 0, 300_000);
}, 900_000);

it('on a full disk says so, leaves nothing behind, removes, and goes on once there is room', async () => {
  const disk = await Disk.make('48M');
  const root = join(disk.path, 'root');
  mkdirSync(root);
  try {
    thaw = await ThawDaemon.start({}, { root });
    connect(1);
    await client().prepare('before', '');
    writeFileSync(join(disk.path, 'ballast'), '');
    // Root may also use what is reserved for it.
    await run('dd', ['if=/dev/zero', `of=${disk.path}/ballast`, 'bs=4k'], { allowFailure: true });
    await run('sync', []);
    await run('dd', ['if=/dev/zero', `of=${disk.path}/ballast2`, 'bs=4k'], { allowFailure: true });
    let made = 0;
    const fill = async () => {
      // What is left in blocks that are taken already is enough for some.
      for (; made < 2_000; made++) await client().prepare(`s${made}`, '', { long: 'x'.repeat(3_000) });
    };
    await expect(fill()).rejects.toMatchObject({
      code: Code.resourceExhausted,
      details: expect.stringContaining('the disk is full'),
    });
    const names = (await client().list()).map(({ name }) => name);
    expect(names.length).toBe(made + 1);
    await client().cleanup();
    expect(directories(root).length).toBe(made + 1);
    // The way out of a full disk must be open.
    await client().remove('before');
    await client().cleanup();
    for (const name of ['ballast', 'ballast2']) await run('rm', ['-f', join(disk.path, name)]);
    await client().prepare(`s${made}`, '');
    await thaw.kill();
    await thaw.restart();
    client().close();
    connect(1);
    expect((await client().list()).length).toBe(made + 1);
    await client().cleanup();
    expect(directories(root).length).toBe(made + 1);
  } finally {
    for (const each of clients) each.close();
    await thaw.halt();
    await disk.remove();
  }
}, 300_000);

it('deletes what it can beside a directory in which something is mounted', async () => {
  thaw = await ThawDaemon.start();
  connect(1);
  const mounted = async (name: string) => {
    const [mount] = await client().prepare(name, '');
    const dir = join(mount?.source ?? '', 'busy');
    mkdirSync(dir);
    await run('mount', ['-t', 'tmpfs', 'tmpfs', dir]);
  };
  await mounted('first');
  for (const name of ['a', 'b']) await client().prepare(name, '');
  for (const name of ['first', 'a', 'b']) await client().remove(name);
  await client().cleanup();
  const [left, ...others] = directories();
  expect(others).toEqual([]);
  expect(left).toMatch(/^gone-/);
  await run('umount', [join(thaw.root, 'snapshots', left ?? '', 'fs/busy')]);
  await client().cleanup();
  expect(directories()).toEqual([]);
  expect(existsSync(join(thaw.root, 'snapshots'))).toBe(true);
});
