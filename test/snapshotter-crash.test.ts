/**
 * thaw-snapshotter ends, or the power fails, before each of the calls with which an operation changes the disk. After
 * the next start store and disk agree, nothing leaks, and what was answered is there.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { INDEX_ANNOTATION } from '../checkpoint/annotation.ts';
import { Code } from '../proto/status.ts';
import { fakeCheckpoint } from '../snapshotter/fake-checkpoint.test-helper.ts';
import { withMounts } from './conformance/mount.ts';
import { type Info, SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { Disk } from './lib/disk.ts';
import {
  type Blob,
  CrashPoint,
  image,
  isStopped,
  privateDir,
  push,
  Registry,
  run,
  until,
} from './lib/index.ts';

/** Every call, or every fourth: each costs a start of the daemon. */
const STRIDE = process.env['THAW_FULL'] === '1' ? 1 : 4;
/** Of calls that come at once, which are as many times more. */
const MANY_STRIDE = 3 * STRIDE;
const CONTENT = 'must stay';
const LAYER = 'application/vnd.oci.image.layer.v1.tar';

type Row = Pick<Info, 'name' | 'parent' | 'kind' | 'labels'>;
type Rows = ReadonlyMap<string, Row>;

interface Operation {
  name: string;
  /** What it needs; `id` makes its names new. */
  setUp?: (id: string) => Promise<void>;
  call: (id: string) => Promise<unknown>;
  /** What the rows are once it was answered. */
  effect: (rows: Map<string, Row>, id: string) => void;
}

/** Then directories of what is not committed may go. */
let powerFails = false;
let root: string;
let point: CrashPoint;
let thaw: ThawDaemon;
let client: SnapshotsClient;

const snapshots = () => readdirSync(join(root, 'snapshots'));
const rowsNow = async (): Promise<Map<string, Row>> =>
  new Map(
    (await client.list()).map(({ name, parent, kind, labels }) => [name, { name, parent, kind, labels }]),
  );
const restart = async () => {
  point.disarm();
  client?.close();
  await thaw.restart();
  client = new SnapshotsClient(thaw.socket);
};
/** `seen`: what calls are counted of, the root or something below. */
const start = async (seen = '') => {
  point = new CrashPoint(join(root, seen));
  thaw = await ThawDaemon.start({}, { root, env: point.env });
  client = new SnapshotsClient(thaw.socket);
};
const stop = async () => {
  client.close();
  await thaw.stop();
  point.remove();
};

/** A committed layer whose content is on the device. */
const commitLayer = async (name: string) => {
  const [mount] = await client.prepare(`key of ${name}`, '');
  const dir = mount?.source ?? '';
  writeFileSync(join(dir, 'content'), CONTENT, { flush: true });
  const fd = openSync(dir, 'r');
  fsyncSync(fd);
  closeSync(fd);
  await client.commit(name, `key of ${name}`, { l: 'v' });
};

const operations: Operation[] = [
  {
    name: 'Prepare',
    call: (id) => client.prepare(id, 'base', { l: id }),
    effect: (rows, id) => rows.set(id, { name: id, parent: 'base', kind: 'active', labels: { l: id } }),
  },
  {
    name: 'View',
    call: (id) => client.view(id, 'base'),
    effect: (rows, id) => rows.set(id, { name: id, parent: 'base', kind: 'view', labels: {} }),
  },
  {
    name: 'Commit',
    setUp: async (id) => {
      await client.prepare(`${id} key`, 'base');
    },
    call: (id) => client.commit(id, `${id} key`, { l: id }),
    effect: (rows, id) => {
      rows.delete(`${id} key`);
      rows.set(id, { name: id, parent: 'base', kind: 'committed', labels: { l: id } });
    },
  },
  {
    name: 'Update',
    setUp: async (id) => {
      await client.prepare(id, 'base', { l: 'old' });
    },
    call: (id) => client.update({ name: id, parent: '', labels: { l: 'new' } }),
    effect: (rows, id) => rows.set(id, { name: id, parent: 'base', kind: 'active', labels: { l: 'new' } }),
  },
  {
    name: 'Usage',
    setUp: commitLayer,
    call: (id) => client.usage(id),
    effect: () => {},
  },
  {
    name: 'Remove',
    setUp: async (id) => {
      const mounts = await client.prepare(id, 'base');
      await withMounts(mounts, join(root, '../mnt'), (dir) => {
        mkdirSync(join(dir, 'deep/er'), { recursive: true });
        writeFileSync(join(dir, 'deep/er/file'), 'x');
      });
    },
    // What is deleted behind its answer is part of it.
    call: async (id) => {
      await client.remove(id);
      await client.cleanup();
    },
    effect: (rows, id) => rows.delete(id),
  },
];

/** What a start made again. */
const remade = () =>
  thaw
    .events()
    .filter(({ msg }) => /made again/.test(String(msg)))
    .map(({ name }) => String(name));

/** Every row has its directory and can be mounted, every directory has its row, and the base has its content. */
const checkAgreement = async () => {
  await client.cleanup();
  const rows = await rowsNow();
  // A start must not have needed to mend anything but what a power failure may take.
  expect(thaw.events().filter(({ msg }) => /are gone/.test(String(msg)))).toEqual([]);
  const unexpected = remade().filter((name) => !powerFails || rows.get(name)?.kind === 'committed');
  expect(unexpected).toEqual([]);
  expect(snapshots().length, `directories ${snapshots()} of rows ${[...rows.keys()]}`).toBe(rows.size);
  for (const { name, kind } of rows.values()) {
    if (kind === 'committed') continue;
    await withMounts(await client.mounts(name), join(root, '../mnt'), (dir) =>
      expect(readFileSync(join(dir, 'content'), 'utf8')).toBe(CONTENT),
    );
  }
};

/** Ends the daemon before the given call of an operation. False if the operation had fewer calls. */
const crashAt = async (
  call: number,
  operation: Operation,
  what: 'kill' | 'stop',
  crash: () => Promise<void>,
): Promise<boolean> => {
  const id = `${operation.name} ${what} ${call}`;
  await operation.setUp?.(id);
  await client.cleanup();
  const before = await rowsNow();
  const after = new Map(before);
  operation.effect(after, id);
  point.arm(call, what);
  let answered = false;
  const calling = operation.call(id).then(
    () => {
      answered = true;
    },
    () => {},
  );
  // A daemon that is stopped answers nothing and ends no connection.
  const stopped = () => until('an answer, or the stop', () => answered || isStopped(thaw.pid), 30_000);
  await (what === 'kill' ? calling : Promise.race([calling, stopped()]));
  const reached = point.count() >= call;
  await crash();
  await restart();
  await calling;
  const found = await rowsNow();
  if (answered) expect(found, `${id}, answered`).toEqual(after);
  else expect([before, after] as Rows[], id).toContainEqual(found);
  await checkAgreement();
  // What was not done can be done now.
  if (!answered && operation.name !== 'Usage') {
    await operation.call(id).catch((error: unknown) => {
      if (JSON.stringify([...found]) !== JSON.stringify([...after])) throw error;
    });
    expect(await rowsNow()).toEqual(after);
  }
  return reached;
};

/**
 * Writes until SQLite's log begins anew: then all of it is in the database, and the log is written over. A flush of one that
 * grows would have the file system write its journal, and new folders with it.
 */
const wrapLog = async (write: () => Promise<unknown>): Promise<void> => {
  // SQLite chooses them anew then.
  const salts = () => readFileSync(join(root, 'meta.db-wal')).subarray(16, 24).toString('hex');
  await write();
  const before = salts();
  // Many share a flush.
  while (salts() === before) await Promise.all(Array.from({ length: 25 }, write));
};

/**
 * Ends the daemon before the writes to the database itself, which a thread makes once the log got long, while a snapshot is
 * changed over and over.
 */
const crashInTransfers = async (what: 'kill' | 'stop', crash: () => Promise<void>): Promise<void> => {
  await stop();
  await start('meta.db');
  await client.prepare('counter', 'base');
  let [sent, answered] = [0, 0];
  const write = async () => {
    const number = ++sent;
    await client.update({ name: 'counter', parent: '', labels: { l: `${number}` } });
    answered = Math.max(answered, number);
  };
  let dead = true;
  let call = 1;
  for (; dead; call += STRIDE) {
    point.arm(call, what);
    let ended = false;
    const writing = wrapLog(write)
      .catch(() => {})
      .finally(() => {
        ended = true;
      });
    await until('the log to be in the database, or the end', () => ended || isStopped(thaw.pid), 60_000);
    dead = point.count() >= call;
    await crash();
    await restart();
    await writing;
    const found = Number((await client.stat('counter')).labels['l']);
    expect(found, `transfer ${what} ${call}`).toBeGreaterThanOrEqual(answered);
    expect(found).toBeLessThanOrEqual(sent);
    await checkAgreement();
  }
  expect(call, 'calls that the library saw').toBeGreaterThan(1 + STRIDE);
};

/** Ends the daemon before calls of several operations that come at once, and so share folders' steps, a transaction and a flush. */
const crashInMany = async (what: 'kill' | 'stop', crash: () => Promise<void>): Promise<void> => {
  let dead = true;
  let call = 1;
  for (; dead; call += MANY_STRIDE) {
    const id = (name: string) => `${name} ${what} ${call}`;
    await client.prepare(id('old'), 'base');
    await client.prepare(id('key'), 'base');
    await client.cleanup();
    const answered = new Set<string>();
    const ask = (name: string, asked: Promise<unknown>) =>
      asked.then(
        () => void answered.add(name),
        () => {},
      );
    point.arm(call, what);
    const all = Promise.all([
      ...['a', 'b', 'c'].map((name) => ask(name, client.prepare(id(name), 'base'))),
      ask('layer', client.commit(id('layer'), id('key'))),
      ask('gone', client.remove(id('old'))),
    ]);
    const stopped = () =>
      until('answers, or the stop', () => answered.size === 5 || isStopped(thaw.pid), 30_000);
    await (what === 'kill' ? all : Promise.race([all, stopped()]));
    dead = point.count() >= call;
    // What is answered from here on is not looked at: the daemon is stopped, or has answered all.
    const told = [...answered];
    await crash();
    await restart();
    await all;
    const rows = await rowsNow();
    for (const name of told)
      expect(rows.has(id(name === 'gone' ? 'old' : name)), id(name)).toBe(name !== 'gone');
    expect(rows.has(id('layer')), 'either the key or the layer').toBe(!rows.has(id('key')));
    await checkAgreement();
  }
  expect(call, 'calls that the library saw').toBeGreaterThan(1 + MANY_STRIDE);
};

const crashAtEachCall = async (
  operation: Operation,
  what: 'kill' | 'stop',
  crash: () => Promise<void>,
): Promise<void> => {
  let call = 1;
  for (; await crashAt(call, operation, what, crash); call += STRIDE);
  expect(call, 'calls that the library saw').toBeGreaterThan(1);
};

describe('kill -9', () => {
  beforeEach(async () => {
    root = join(privateDir('crash-root'), 'root');
    mkdirSync(root);
    await start();
    await commitLayer('base');
  });
  afterEach(async () => {
    await stop();
    await run('rm', ['-rf', join(root, '..')]);
  });

  it.each(operations)('before each call of $name', async (operation) => {
    await crashAtEachCall(operation, 'kill', () => thaw.kill());
  });

  it('before each call of several operations at once', async () => {
    await crashInMany('kill', () => thaw.kill());
  });

  it('before each write to the database that a long log is put into', async () => {
    await crashInTransfers('kill', () => thaw.kill());
  });

  it('before each call in snapshots/ of a Prepare that has a layer streamed', async () => {
    const registry = await Registry.start();
    try {
      const bytes = Buffer.alloc(1 << 20, 'page');
      const checkpoint = fakeCheckpoint([
        [{ name: 'pages-1.img', size: bytes.length, chunks: [{ at: 0, bytes }] }],
      ]);
      const layers = [...checkpoint.blobs].map(
        ([digest, blob]): Blob => ({ mediaType: LAYER, digest, bytes: blob }),
      );
      const reference = await push(registry.host, 'test/app', '1', image(layers));
      const [name = ''] = checkpoint.blobs.keys();
      const prepare = () =>
        client.prepare(`k8s.io/1/extract ${name}`, '', {
          'containerd.io/snapshot.ref': name,
          [INDEX_ANNOTATION]: checkpoint.annotation,
          'containerd.io/snapshot/cri.image-ref': reference,
          'containerd.io/snapshot/cri.layer-digest': name,
        });
      await stop();
      await start('snapshots');
      const before = await rowsNow();
      let dead = true;
      let call = 1;
      for (; dead; call++) {
        point.arm(call, 'kill');
        await prepare().catch(() => {});
        dead = point.count() >= call;
        await thaw.kill();
        await restart();
        const rows = await rowsNow();
        rows.delete(name);
        expect(rows).toEqual(before);
        await checkAgreement();
        await expect(prepare()).rejects.toMatchObject({ code: Code.alreadyExists });
        await client.remove(name);
      }
      expect(call).toBeGreaterThan(4);
    } finally {
      await registry.stop();
    }
  });

  it('before each call of a start that finds orphans', async () => {
    const before = await rowsNow();
    let dead = true;
    let call = 1;
    for (; dead; call += STRIDE) {
      await thaw.kill();
      for (const name of [String(1_000_000 + call), `gone-${call}`, `new-${call}`])
        mkdirSync(join(root, 'snapshots', name, 'fs/deep'), { recursive: true });
      point.arm(call, 'kill');
      client.close();
      const started = await thaw.restart().then(
        () => true,
        () => false,
      );
      if (started) {
        client = new SnapshotsClient(thaw.socket);
        await client.cleanup().catch(() => {});
      }
      dead = point.count() >= call;
      await thaw.kill();
      await restart();
      expect(await rowsNow()).toEqual(before);
      await checkAgreement();
    }
    expect(call).toBeGreaterThan(1 + STRIDE);
  });

  it('before each call of the very first start', async () => {
    await thaw.kill();
    let dead = true;
    let call = 1;
    for (; dead; call += STRIDE) {
      await run('rm', ['-rf', root]);
      mkdirSync(root);
      point.arm(call, 'kill');
      client.close();
      await thaw.restart().catch(() => {});
      dead = point.count() >= call;
      await thaw.kill();
      await restart();
      expect(await client.list()).toEqual([]);
      await commitLayer('base');
      await checkAgreement();
    }
    expect(call).toBeGreaterThan(1 + STRIDE);
  });

  it('before each call of an orderly end', async () => {
    const before = await rowsNow();
    let dead = true;
    let call = 1;
    for (; dead; call += STRIDE) {
      await client.update({ name: 'base', parent: '', labels: { l: 'v' } });
      point.arm(call, 'kill');
      await thaw.halt().catch(() => {});
      dead = point.count() >= call;
      await restart();
      expect(await rowsNow()).toEqual(before);
      await checkAgreement();
    }
    expect(call).toBeGreaterThan(1 + STRIDE);
  });
});

describe('a power failure', () => {
  let disk: Disk;
  beforeAll(async () => {
    powerFails = true;
    disk = await Disk.make('64M');
    root = join(disk.path, 'root');
    mkdirSync(root);
    await start();
    await commitLayer('base');
    await wrapLog(updateBase);
  });
  const updateBase = () => client.update({ name: 'base', parent: '', labels: { l: 'v' } });
  afterAll(async () => {
    await stop();
    await disk.remove();
  });

  const fail = async () => {
    // Whether it was reached or not: nothing may write while the device is copied.
    process.kill(thaw.pid, 'SIGSTOP');
    await until('the daemon to be stopped', () => isStopped(thaw.pid));
    const device = await disk.copy();
    await thaw.kill();
    await disk.become(device);
    expect(existsSync(join(root, 'meta.db'))).toBe(true);
  };

  it.each(operations)('before each call of $name, and after its answer', async (operation) => {
    await crashAtEachCall(operation, 'stop', fail);
  });

  it('before each call of several operations at once, and after their answers', async () => {
    await crashInMany('stop', fail);
  });

  it('before each call in snapshots/ of Prepare and View, up to the flush that nobody waits for', async () => {
    await stop();
    await start('snapshots');
    await wrapLog(updateBase);
    const before = await rowsNow();
    for (const [id, ask] of [
      ['flush of an active snapshot', () => client.prepare('flush of an active snapshot', 'base')],
      ['flush of a view', () => client.view('flush of a view', 'base')],
    ] as const) {
      let flushes = 0;
      // Before the flush the row is on the disk, and its directory is not.
      for (let call = 1; !remade().includes(id); ) {
        await client.cleanup();
        point.arm(call, 'stop');
        const asking = ask().catch(() => {});
        await until(`call ${call} of the ${id}`, () => isStopped(thaw.pid), 30_000);
        await fail();
        await restart();
        await asking;
        const rows = await rowsNow();
        const found = rows.has(id);
        rows.delete(id);
        expect(rows).toEqual(before);
        await checkAgreement();
        if (!found) call++;
        else {
          // Once more where the directory was there too: the log had grown, or any program's sync(2) wrote this journal as well.
          expect(++flushes).toBeLessThan(10);
          await client.remove(id);
          await wrapLog(updateBase);
        }
      }
    }
    await stop();
    await start();
  });

  it('before each write to the database that a long log is put into', async () => {
    await crashInTransfers('stop', fail);
  });
});
