import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SHM_DATA_FILE, SHM_LIST_FILE, type ShmEntry, writeShmList } from '../../checkpoint/shm.ts';
import { Code } from '../../proto/status.ts';
import { fillShm } from './fill.ts';
import { sharedMemoryDir } from './place.ts';
import { saveShm } from './save.ts';

let dir: string;
let from: string;
let images: string;
let to: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'shm-'));
  [from, images, to] = ['from', 'images', 'to'].map((name) => join(dir, name)) as [string, string, string];
  for (const one of [from, images, to]) mkdirSync(one);
});
afterEach(() => rmSync(dir, { recursive: true }));

function populate(): void {
  writeFileSync(join(from, 'sem.lock'), 'x'.repeat(32));
  chmodSync(join(from, 'sem.lock'), 0o660);
  linkSync(join(from, 'sem.lock'), join(from, 'sem.other'));
  mkdirSync(join(from, 'torch'));
  chmodSync(join(from, 'torch'), 0o1777);
  // Zeros, then three bytes at 3 MiB.
  const weights = openSync(join(from, 'torch/weights'), 'w');
  writeSync(weights, 'end', 3 << 20);
  closeSync(weights);
  writeFileSync(join(from, 'torch/empty'), '');
  symlinkSync('../sem.lock', join(from, 'torch/link'));
}

const stated = (path: string) => {
  const { mode, uid, gid, size, nlink } = lstatSync(path);
  return { mode, uid, gid, size, nlink };
};

describe('/dev/shm', () => {
  it('comes back: files, holes, modes, owners, directories and both kinds of link', async () => {
    populate();
    if (process.getuid?.() === 0) chownSync(join(from, 'sem.lock'), 1000, 1001);
    const saved = await saveShm(from, images);
    expect(saved).toMatchObject({ entries: 6, leftOut: [] });
    expect(statSync(join(images, SHM_DATA_FILE)).blocks * 512).toBeLessThan(1 << 20);
    const filled = await fillShm(images, to);
    expect(filled?.count).toBe(6);
    for (const path of ['sem.lock', 'sem.other', 'torch', 'torch/weights', 'torch/empty', 'torch/link'])
      expect({ path, ...stated(join(to, path)) }).toEqual({ path, ...stated(join(from, path)) });
    expect(readFileSync(join(to, 'torch/weights')).equals(readFileSync(join(from, 'torch/weights')))).toBe(
      true,
    );
    expect(readFileSync(join(to, 'torch/link'), 'utf8')).toBe('x'.repeat(32));
    expect(statSync(join(to, 'sem.lock')).ino).toBe(statSync(join(to, 'sem.other')).ino);
  });

  it('leaves out what no copy can stand for, and writes nothing where there is nothing', async () => {
    expect(await saveShm(from, images)).toEqual({ entries: 0, bytes: 0, leftOut: [] });
    expect(readdirSync(images)).toEqual([]);
    expect(await fillShm(images, to)).toBeUndefined();
    execFileSync('mkfifo', [join(from, 'fifo')]);
    writeFileSync(Buffer.concat([Buffer.from(`${from}/`), Buffer.from([0xff])]), 'x');
    const { leftOut, entries } = await saveShm(from, images);
    expect([leftOut.length, entries]).toEqual([2, 0]);
    expect(leftOut).toContain('fifo');
  });

  it('takes away what it put there, but nothing that somebody else has made or replaced since', async () => {
    populate();
    await saveShm(from, images);
    const filled = await fillShm(images, to);
    rmSync(join(to, 'sem.other'));
    writeFileSync(join(to, 'sem.other'), 'theirs');
    writeFileSync(join(to, 'torch/theirs'), 'theirs');
    await filled?.takeAway();
    expect(readdirSync(to).sort()).toEqual(['sem.other', 'torch']);
    expect(readdirSync(join(to, 'torch'))).toEqual(['theirs']);
    // A second time it touches nothing.
    writeFileSync(join(to, 'sem.lock'), 'new');
    await filled?.takeAway();
    expect(existsSync(join(to, 'sem.lock'))).toBe(true);
  });

  it('uses what is there already if it is the same, and does not take that away', async () => {
    populate();
    await saveShm(from, images);
    const sibling = await fillShm(images, to);
    const second = await fillShm(images, to);
    expect([sibling?.count, second?.count]).toEqual([6, 0]);
    await second?.takeAway();
    expect(existsSync(join(to, 'torch/weights'))).toBe(true);
  });

  it.each<[string, () => void]>([
    ['other content', () => writeFileSync(join(to, 'torch/empty'), 'x')],
    ['another mode', () => writeFileSync(join(to, 'torch/empty'), '', { mode: 0o600 })],
    ['a link', () => symlinkSync('/etc/passwd', join(to, 'torch/empty'))],
    ['a directory', () => mkdirSync(join(to, 'torch/empty'))],
  ])('is not filled over what a sibling made with %s, and nothing of it stays', async (_, make) => {
    populate();
    await saveShm(from, images);
    mkdirSync(join(to, 'torch'));
    make();
    await expect(fillShm(images, to)).rejects.toMatchObject({
      code: Code.alreadyExists,
      message: expect.stringContaining('/dev/shm/torch/empty'),
    });
    expect(readdirSync(to)).toEqual(['torch']);
    expect(readdirSync(join(to, 'torch'))).toEqual(['empty']);
  });

  it('does not follow a link that stands where a directory is to be', async () => {
    populate();
    await saveShm(from, images);
    const elsewhere = join(dir, 'elsewhere');
    mkdirSync(elsewhere);
    symlinkSync(elsewhere, join(to, 'torch'));
    await expect(fillShm(images, to)).rejects.toThrow(/\/dev\/shm\/torch/);
    expect(readdirSync(elsewhere)).toEqual([]);
  });

  it('refuses a list that asks for more than the data holds, and more than there is room', async () => {
    const entry: ShmEntry = {
      kind: 'file',
      path: 'x',
      mode: 0o600,
      uid: 0,
      gid: 0,
      offset: 0,
      size: 2 ** 50,
    };
    writeFileSync(join(images, SHM_LIST_FILE), writeShmList([entry]));
    writeFileSync(join(images, SHM_DATA_FILE), 'short');
    await expect(fillShm(images, to)).rejects.toThrow(/ends behind the 5 bytes/);
    rmSync(join(images, SHM_DATA_FILE));
    symlinkSync('/dev/zero', join(images, SHM_DATA_FILE));
    await expect(fillShm(images, to)).rejects.toThrow();
    rmSync(join(images, SHM_DATA_FILE));
    writeFileSync(join(images, SHM_DATA_FILE), '');
    truncateSync(join(images, SHM_DATA_FILE), 8 * 2 ** 40);
    writeFileSync(join(images, SHM_LIST_FILE), writeShmList([{ ...entry, size: 8 * 2 ** 40 }]));
    await expect(fillShm(images, to)).rejects.toMatchObject({ code: Code.resourceExhausted });
    expect(readdirSync(to)).toEqual([]);
  });
});

describe('sharedMemoryDir', () => {
  const mount = (change: object) => ({
    mounts: [
      { destination: '/dev/shm', type: 'bind', source: '/run/pod/shm', options: ['rbind', 'rw'], ...change },
    ],
  });

  it('is the directory that a pod shares', () => {
    expect(sharedMemoryDir(mount({}))).toBe('/run/pod/shm');
    expect(sharedMemoryDir(mount({ type: '' }))).toBe('/run/pod/shm');
  });

  it("is none where CRIU saves it, where it is the host's, and where nobody may write", () => {
    expect(sharedMemoryDir(mount({ type: 'tmpfs', source: 'shm', options: ['nosuid'] }))).toBeUndefined();
    expect(sharedMemoryDir(mount({ source: '/dev/shm' }))).toBeUndefined();
    expect(sharedMemoryDir(mount({ options: ['rbind', 'ro'] }))).toBeUndefined();
    expect(sharedMemoryDir({})).toBeUndefined();
  });
});
