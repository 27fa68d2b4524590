/** Memory that comes later, after the machine lost its power: what the disk kept is used, what it lost comes again. */
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Disk } from './lib/disk.ts';
import { run, until } from './lib/index.ts';
import { LazyNode, type MemoryPod, useLazyNode } from './lib/lazy-node.ts';

const BOOT_ID = '/proc/sys/kernel/random/boot_id';
const PAGE = 4096;
/** Comes and is flushed, at the least. */
const FLUSHED = 4 << 20;
/** Comes without being flushed: in half a second, and the daemon flushes every five (or every 256 MiB). */
const UNFLUSHED = 1 << 20;
const RATE = 2 << 20;

let disk: Disk;
let lazy: LazyNode;
beforeAll(async () => {
  disk = await Disk.make('1G');
});
// Hooks that end something run in the opposite order: the node is stopped first.
afterAll(() => disk.remove());
useLazyNode(
  (node) => {
    lazy = node;
  },
  () => {
    const root = join(disk.path, 'thaw');
    mkdirSync(root, { mode: 0o700 });
    return LazyNode.start({ root });
  },
);
afterEach(async () => {
  while ((await run('mountpoint', ['-q', BOOT_ID], { allowFailure: true })).code === 0)
    await run('umount', [BOOT_ID]);
});

/** The only checkpoint in the node cache. */
function cacheEntry(): string {
  const cache = join(lazy.node.root, 'cache');
  const [entry, ...others] = readdirSync(cache, { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.split('/').at(-1) === 'files',
  );
  if (entry === undefined || others.length > 0) throw new Error('not one checkpoint in the cache');
  return join(cache, entry, '..');
}

/** The machine is switched off as it was when `copy` was made, and on again. */
async function reboot(copy: string): Promise<void> {
  await lazy.removePods();
  await lazy.node.killSnapshotter();
  await disk.become(copy);
  const id = join(disk.path, 'boot_id');
  writeFileSync(id, `${randomUUID()}\n`);
  await run('mount', ['--bind', id, BOOT_ID]);
}

/** Every byte of the first page of memory that is here becomes another. */
function damage(): void {
  const files = join(cacheEntry(), 'files');
  const [name] = readdirSync(files).filter((file) => /^pages-\d+\.img$/.test(file));
  const fd = openSync(join(files, name ?? ''), 'r+');
  try {
    const page = Buffer.alloc(PAGE);
    for (let at = 0; at < fstatSync(fd).size; at += PAGE) {
      readSync(fd, page, 0, PAGE, at);
      if (page.every((byte) => byte === 0)) continue;
      writeSync(
        fd,
        page.map((byte) => byte ^ 0xff),
        0,
        PAGE,
        at,
      );
      return;
    }
    throw new Error('no memory is here');
  } finally {
    closeSync(fd);
  }
}

/** A restore of which some memory is on the disk, and some more has come since. */
async function interrupted(): Promise<MemoryPod> {
  const pod = await lazy.runHeld();
  const { link } = lazy;
  const before = link.sent;
  link.rate = RATE;
  link.held = false;
  await until('memory to come', () => link.sent >= before + FLUSHED);
  const old = savedMap();
  await until('the map of what is here to be on the disk', () => savedMap() !== old, 15_000);
  const flushed = link.sent;
  await until('more to come', () => link.sent >= flushed + UNFLUSHED);
  link.held = true;
  return pod;
}

/** Each time that the map of what is here is saved, it is another file. */
function savedMap(): number | undefined {
  return statSync(join(cacheEntry(), 'present'), { throwIfNoEntry: false })?.ino;
}

it('brings again what had not reached the disk, and only that', async () => {
  const before = lazy.link.sent;
  await interrupted();
  const sent = lazy.link.sent - before;
  await reboot(await disk.copy());
  await lazy.node.startSnapshotter();
  const again = lazy.link.sent;
  lazy.letGo();
  const pod = await lazy.run(lazy.warm);
  await lazy.expectRestored(pod);
  await lazy.check(pod);
  await lazy.drained();
  const whole = await wholeCheckpoint();
  // Less than all, and all that was not flushed. The index came too, and of chunks on their way to the disk a part.
  expect(lazy.link.sent - again).toBeLessThan(whole - FLUSHED / 2);
  expect(lazy.link.sent - again).toBeGreaterThan(whole - sent);
});

it('brings again what the disk said it had and has not', async () => {
  await interrupted();
  await reboot(await disk.copy());
  damage();
  await lazy.node.startSnapshotter();
  lazy.letGo();
  const pod = await lazy.run(lazy.warm);
  await lazy.expectRestored(pod);
  await lazy.check(pod);
  expect(lazy.wrong(pod)).toBe('');
});

it('needs no registry for a checkpoint that was all on the disk', async () => {
  await lazy.run(lazy.warm);
  await lazy.drained();
  await until('all of it to be on the disk', () => existsSync(join(cacheEntry(), 'complete')), 15_000);
  await reboot(await disk.copy());
  await lazy.link.cut();
  await lazy.node.registry.halt();
  try {
    await lazy.node.startSnapshotter();
    const pod = await lazy.run(lazy.warm);
    await lazy.expectRestored(pod);
    await lazy.check(pod);
  } finally {
    await lazy.node.registry.restart();
  }
});

/** Stored bytes of all its files. */
async function wholeCheckpoint(): Promise<number> {
  const { stdout } = await lazy.node.thaw(['status', '--json']);
  const { checkpoints } = JSON.parse(stdout) as { checkpoints: { storedBytes: number }[] };
  return Number(checkpoints[0]?.storedBytes);
}
