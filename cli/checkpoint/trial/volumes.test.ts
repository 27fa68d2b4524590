import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cleanup } from '../../cleanup.ts';
import { throwAwayVolumes, unmountBelow, type VolumeCalls } from './volumes.ts';

let dir: string;
let done: string[];
const calls: VolumeCalls = {
  mount: (source, target) => void done.push(`mount ${source} ${target}`),
  mountOverlay: (target, lower, upper) => void done.push(`overlay ${target} ${lower} ${upper}`),
  umount: (target) => void done.push(`umount ${target}`),
};
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'volumes-'));
  done = [];
});
afterEach(() => rm(dir, { recursive: true }));

const bind = (source: string, readOnly = false) => ({ destination: `/at${source}`, source, readOnly });

it('mounts nothing where nothing can be written', async () => {
  const made = await throwAwayVolumes([bind(dir, true)], join(dir, 'copies'), calls, new Cleanup());
  expect(made).toEqual({ kind: 'made', sources: new Map() });
  expect(done).toEqual([]);
});

it('copies files, lays overlays over directories, and takes them away in the other order', async () => {
  const file = join(dir, 'hosts');
  await writeFile(file, 'names', { mode: 0o604 });
  const copies = join(dir, 'copies');
  const cleanup = new Cleanup();
  const made = await throwAwayVolumes([bind(file), bind(dir)], copies, calls, cleanup);
  expect(made).toEqual({
    kind: 'made',
    sources: new Map([
      [`/at${file}`, join(copies, '0')],
      [`/at${dir}`, join(copies, '1')],
    ]),
  });
  expect(await readFile(join(copies, '0'), 'utf8')).toBe('names');
  expect((await stat(join(copies, '0'))).mode & 0o777).toBe(0o604);
  expect(await cleanup.run()).toEqual([]);
  expect(done).toEqual([
    `mount tmpfs ${copies}`,
    `overlay ${join(copies, '1')} ${dir} ${join(copies, '1.upper')}`,
    `umount ${join(copies, '1')}`,
    `umount ${copies}`,
  ]);
});

it('gives a trial a /dev/shm that is empty, like the one of the source', async () => {
  const shared = join(dir, 'shared');
  await mkdir(shared);
  await chmod(shared, 0o1777);
  await writeFile(join(shared, 'x'), '');
  const copies = join(dir, 'copies');
  const shm = { destination: '/dev/shm', source: shared, readOnly: false };
  const made = await throwAwayVolumes([shm], copies, calls, new Cleanup());
  expect(made).toEqual({ kind: 'made', sources: new Map([['/dev/shm', join(copies, '0')]]) });
  expect((await stat(join(copies, '0'))).mode & 0o7777).toBe(0o1777);
  expect(await readdir(join(copies, '0'))).toEqual([]);
});

it('says what cannot be copied', async () => {
  const made = await throwAwayVolumes([bind('/dev/null')], join(dir, 'copies'), calls, new Cleanup());
  expect(made).toEqual({ kind: 'impossible', reason: 'what is mounted at /at/dev/null cannot be copied' });
});

it('unmounts what a killed command has left, topmost first', () => {
  const line = (point: string) => `1 2 0:3 / ${point} rw - tmpfs tmpfs rw`;
  unmountBelow('/w', ['/w/a', '/w/a/b', '/wider', '/w'].map(line).join('\n'), calls);
  expect(done).toEqual(['umount /w/a/b', 'umount /w/a']);
});
