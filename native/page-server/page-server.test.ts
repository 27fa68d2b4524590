// The page server under the stress program: every scenario, with chunks that are here and with chunks that come late.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { native } from '../index.ts';
import { temporaryFolder } from '../testing.ts';
import {
  BASE,
  BIG,
  type Checkpoint,
  type Ended,
  type Layout,
  MANY,
  makeCheckpoint,
  page,
  type RestoreOptions,
  type Scenario,
  startRestore,
  whyNotPermitted,
} from './fake-criu.test-helper.ts';
import { LAUNCHER, type ServeOptions, type Serving, serve, servedOf } from './page-server.test-helper.ts';

const reason = whyNotPermitted();

/** Zero pages in and outside of the pagemap, pages that CRIU fills, a mapping that is all zero, a zombie. */
const SMALL: Layout = {
  seed: 11,
  processes: [
    {
      pid: 100,
      vmas: [
        { address: BASE, pages: 2048 },
        { address: BASE + page(4096), pages: 128 },
        { address: BASE + page(8192), pages: 1024 },
      ],
      runs: [
        { address: BASE, pages: 1000, first: 0 },
        { address: BASE + page(1000), pages: 8, first: 1000, eager: true },
        { address: BASE + page(1100), pages: 800, first: 1008 },
        { address: BASE + page(8192), pages: 1024, first: 2000 },
      ],
      zeros: [{ first: 2100, pages: 200 }],
    },
    { pid: 105, zombie: true },
    { pid: 101, vmas: [{ address: BASE, pages: 1024 }], runs: [{ address: BASE, pages: 1024, first: 0 }] },
  ],
};

interface Tried {
  restore: Ended;
  serving: Serving;
}

const socketOf = (checkpoint: Checkpoint) => join(checkpoint.folder, 'lazy-pages.socket');

async function attempt(layout: Layout, options: RestoreOptions, serving: ServeOptions = {}): Promise<Tried> {
  const checkpoint = makeCheckpoint(temporaryFolder(), layout);
  const started = await serve(checkpoint, servedOf(checkpoint), serving);
  return { restore: await startRestore(checkpoint, socketOf(checkpoint), options).ended, serving: started };
}

/** All ordinals in an order that no reader has. */
function shuffled(layout: Layout): number[] {
  const { chunks } = servedOf(makeCheckpoint(temporaryFolder(), layout));
  return Array.from({ length: chunks }, (_, i) => (i * 37) % chunks);
}

describe.skipIf(reason !== '')(`memory from the page server${reason ? ` (${reason})` : ''}`, () => {
  const scenarios: [Scenario, Layout, Partial<RestoreOptions>][] = [
    ['read-all', SMALL, {}],
    ['read-random', SMALL, {}],
    ['write-first', SMALL, {}],
    ['dontneed', SMALL, { operations: 100 }],
    ['mremap', SMALL, { operations: 100 }],
    ['munmap', SMALL, { operations: 100 }],
    ['mprotect', SMALL, { operations: 150 }],
    ['fork', SMALL, {}],
    ['exit', SMALL, { operations: 100 }],
    ['all', SMALL, { operations: 400 }],
    ['all', SMALL, { operations: 400, seed: 2, threads: 1, early: true }],
    ['many', MANY, { operations: 20 }],
    ['big', BIG, {}],
  ];
  const right = (restore: Ended) => {
    expect(restore.output.split('\n').slice(-1)).toEqual(['right']);
    expect(restore.status).toBe(0);
  };

  it.each(scenarios)('is right in %s', async (scenario, layout, options) => {
    const { restore, serving } = await attempt(layout, { scenario, ...options });
    right(restore);
    await serving.ended;
    expect(serving.events.filter(({ kind }) => kind === 'failed')).toEqual([]);
    expect(serving.counts()).toMatchObject({ missingBytes: 0, memories: 0 });
  });

  it.each(scenarios.filter(([, layout]) => layout === SMALL))(
    'is right in %s while chunks are still to come',
    async (scenario, layout, options) => {
      const { restore, serving } = await attempt(
        layout,
        { scenario, timeoutSeconds: 40, ...options },
        { absent: shuffled(layout), arriveMs: 3 },
      );
      right(restore);
      await serving.ended;
      expect(serving.events.filter(({ kind }) => kind === 'failed')).toEqual([]);
    },
  );

  it.each([
    ['all', SMALL, { operations: 200 }],
    ['big', BIG, {}],
  ] as [Scenario, Layout, Partial<RestoreOptions>][])(
    'is right in %s while others take the processors',
    async (scenario, layout, options) => {
      const others = Array.from({ length: 2 * availableParallelism() }, () =>
        spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
      );
      try {
        const { restore, serving } = await attempt(layout, { scenario, timeoutSeconds: 40, ...options });
        right(restore);
        await serving.ended;
        expect(serving.counts()).toMatchObject({ missingBytes: 0, memories: 0 });
      } finally {
        for (const other of others) other.kill('SIGKILL');
      }
    },
  );

  it('that nobody drains is copied when it is touched, and the order is known', async () => {
    const layout: Layout = { seed: 3, processes: SMALL.processes.slice(2) };
    const checkpoint = makeCheckpoint(temporaryFolder(), layout);
    const serving = await serve(checkpoint, servedOf(checkpoint), { drain: false });
    const restore = startRestore(checkpoint, socketOf(checkpoint), { scenario: 'read-all', keep: true });
    await restore.done();
    expect([...serving.counts().touched]).toEqual(Array.from({ length: 16 }, (_, i) => i));
    expect(serving.counts()).toMatchObject({ drainedBytes: 0 });
    native.pageServerDrain(serving.server);
    restore.finish();
    right(await restore.ended);
  });

  it('has a guard that is replaced when it is lost', async () => {
    const layout: Layout = { seed: 3, processes: SMALL.processes.slice(2) };
    const checkpoint = makeCheckpoint(temporaryFolder(), layout);
    const serving = await serve(checkpoint, servedOf(checkpoint), { absent: [0, 15], arriveMs: 1000 });
    const restore = startRestore(checkpoint, socketOf(checkpoint), { scenario: 'read-all' });
    await restore.ready;
    process.kill(serving.guards[0] as number, 'SIGKILL');
    await expect.poll(() => serving.events.map(({ kind }) => kind)).toContain('guard-lost');
    await serving.startGuard();
    right(await restore.ended);
    await serving.ended;
  });

  it('is never read as zeros when its server is killed: the guard ends the processes first', async () => {
    const layout: Layout = { seed: 3, processes: SMALL.processes.slice(2) };
    const checkpoint = makeCheckpoint(temporaryFolder(), layout);
    const { files, processes, chunks } = servedOf(checkpoint);
    const input = JSON.stringify(
      { files, processes, chunks, socket: socketOf(checkpoint), launcher: LAUNCHER },
      (_, value) => (value instanceof BigUint64Array ? { u64: [...value].map(String) } : value),
    );
    // A shim of its own, with nothing present: its processes wait. They are in no cgroup of theirs: a pidfd is what it has.
    const program = `
      import { native } from ${JSON.stringify(join(import.meta.dirname, '../index.ts'))};
      import { closeSync, openSync, statSync } from 'node:fs';
      const input = JSON.parse(${JSON.stringify(input)}, (_, value) => value?.u64 ? BigUint64Array.from(value.u64, BigInt) : value);
      const files = input.files.map((file) => ({ ...file, fd: openSync(file.path, 'r'), size: BigInt(statSync(file.path).size) }));
      const server = native.pageServerStart(native.consoleListen(input.socket), files, input.processes, input.chunks,
        new Uint32Array(), [], 1, true, (event) => console.log(event.kind));
      const [ours, theirs] = native.messageSockets();
      const guard = native.spawn(input.launcher, ['guard'], [], '/', [-1, -1, -1, theirs], 0);
      closeSync(theirs);
      console.log('guard', guard.pid);
      native.pageServerGuard(server, ours);
      process.stdin.on('data', (pid) => { native.pageServerProcess(server, native.pidfdOpen(Number(pid))); console.log('attached'); });`;
    const shim = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    shim.stderr.on('data', (text) => {
      said += text;
    });
    let said = '';
    shim.stdout.on('data', (text) => {
      said += text;
    });
    await expect.poll(() => said, { timeout: 10_000 }).toContain('guard-ready');
    const restore = startRestore(checkpoint, socketOf(checkpoint), { scenario: 'read-all' });
    await restore.ready;
    const [pid] = [...restore.pids().values()];
    shim.stdin.write(`${pid}\n`);
    await expect.poll(() => said).toContain('attached');
    shim.kill('SIGKILL');
    const { status, output } = await restore.ended;
    expect(output).toMatch(/^killed: process 101 .* by signal 9$/m);
    expect(output).not.toMatch(/differs/);
    expect(status).toBe(3);
    const guard = Number(/guard (\d+)/.exec(said)?.[1]);
    // Gone, or a zombie until whoever adopted it has reaped it.
    const state = () => {
      try {
        return /\) (.)/.exec(readFileSync(`/proc/${guard}/stat`, 'utf8'))?.[1];
      } catch {
        return 'X';
      }
    };
    await expect.poll(state).toMatch(/[XZ]/);
  });

  it('of a task that the page maps do not have is never zeros: the restore has failed', async () => {
    const checkpoint = makeCheckpoint(temporaryFolder(), {
      seed: 3,
      processes: SMALL.processes.slice(2),
    });
    const served = servedOf(checkpoint);
    const other = served.processes.map((process) => ({ ...process, pid: 7 }));
    const serving = await serve(checkpoint, { ...served, processes: other });
    const restore = startRestore(checkpoint, socketOf(checkpoint), { scenario: 'read-all', wait: true });
    await expect
      .poll(() => serving.events.find(({ kind }) => kind === 'failed'))
      .toMatchObject({
        error: { message: expect.stringContaining('no page map of process 101') },
      });
    restore.child.kill('SIGKILL');
    native.pageServerFinish(serving.server);
    await serving.ended;
  });
});

it('ends when it is told that CRIU will not come', async () => {
  const checkpoint = makeCheckpoint(temporaryFolder(), { seed: 3, processes: SMALL.processes.slice(2) });
  const serving = await serve(checkpoint, servedOf(checkpoint), { guard: false });
  native.pageServerFinish(serving.server);
  await serving.ended;
  expect(serving.events.map(({ kind }) => kind)).toEqual(['ended']);
});

describe('refuses', () => {
  const layout: Layout = { seed: 3, processes: SMALL.processes.slice(2) };

  it('a pages file of another size', async () => {
    const checkpoint = makeCheckpoint(temporaryFolder(), layout);
    const served = servedOf(checkpoint);
    const [file] = served.files;
    if (!file) throw new Error('no file');
    await expect(
      serve(checkpoint, { ...served, files: [{ ...file, chunks: BigUint64Array.of(1020n, 5n) }] }),
    ).rejects.toThrow(/outside of its pages file/);
  });

  it('pieces that are none', async () => {
    for (const pieces of [
      BigUint64Array.of(1n, 0n, 1n),
      BigUint64Array.of(4096n, 0n, 0n),
      BigUint64Array.of(4096n, 0n),
    ]) {
      const checkpoint = makeCheckpoint(temporaryFolder(), layout);
      const served = servedOf(checkpoint);
      await expect(
        serve(checkpoint, { ...served, processes: [{ pid: 101, file: 0, pieces }] }),
      ).rejects.toThrow(TypeError);
    }
  });
});
