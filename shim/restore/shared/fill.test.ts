/** What CRIU sees where a segment cannot be filled; that it is filled right is shown by test/lazy-restore.test.ts. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { native } from '../../../native/index.ts';
import { silent } from '../../task/fakes.ts';
import { SharedFill } from './fill.ts';
import type { SharedSegment } from './segments.ts';

const IMAGE = 'pagemap-shmem-3.img';
const segment: SharedSegment = {
  image: IMAGE,
  pagesId: 7,
  pagesFile: 'pages-7.img',
  length: 4096n,
  pieces: BigUint64Array.of(0n, 0n, 1n),
  bytes: 4096n,
};

let dir: string;
let fill: SharedFill | undefined;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-shared-'));
  writeFileSync(join(dir, 'pages-7.img'), Buffer.alloc(4096, 1));
});
afterEach(async () => {
  await fill?.stop();
  fill = undefined;
  rmSync(dir, { recursive: true });
});

function start(): SharedFill {
  fill = SharedFill.start(dir, dir, [segment], native, silent);
  if (!fill) throw new Error('nobody listens');
  return fill;
}

/** Stands in for the task of CRIU: opens the page map and reads it to its end. */
async function read(filling: SharedFill): Promise<string> {
  const child = spawn('cat', [join(dir, IMAGE)], { stdio: ['ignore', 'pipe', 'ignore'] });
  filling.within(child.pid ?? 0);
  let text = '';
  for await (const part of child.stdout.setEncoding('latin1')) text += part;
  return text;
}

it('puts a fifo, for root alone, where CRIU looks for the page map', () => {
  start();
  const info = statSync(join(dir, IMAGE));
  expect(info.isFIFO()).toBe(true);
  expect(info.mode & 0o777).toBe(0o600);
});

it('leaves all to CRIU where nobody can be heard', () => {
  writeFileSync(join(dir, IMAGE), 'page map');
  const watchOpens = () => {
    throw Object.assign(new Error('EMFILE: too many open files, inotify_init1'), { code: 'EMFILE' });
  };
  expect(SharedFill.start(dir, dir, [segment], { ...native, watchOpens }, silent)).toBeUndefined();
  expect(readFileSync(join(dir, IMAGE), 'utf8')).toBe('page map');
});

it('gives no page map to a process that has nowhere to put the pages', async () => {
  const filling = start();
  expect(await read(filling)).toBe('');
  expect(filling.failure?.message).toMatch(
    /Cannot tell where CRIU has put the shared memory of "pagemap-shmem-3.img": it is mapped 0 times/,
  );
});

it('gives none to a process that is not below the one it was told', async () => {
  const filling = start();
  filling.within(process.pid);
  const reading = read(filling);
  filling.within(1 << 22);
  expect(await reading).toBe('');
  expect(filling.failure).toBeDefined();
});

it('lets nobody wait after its end', async () => {
  const filling = start();
  const child = spawn('sh', ['-c', `exec 3<"${join(dir, IMAGE)}"; touch "${dir}/open"; cat <&3`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let text = '';
  const ended = (async () => {
    for await (const part of child.stdout.setEncoding('latin1')) text += part;
  })();
  await expect.poll(() => existsSync(join(dir, 'open'))).toBe(true);
  await filling.stop();
  await ended;
  expect(text).toBe('');
  expect(filling.done.bytes).toBe(0);
});
