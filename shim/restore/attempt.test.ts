import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { procTree } from '../process/process-tree.ts';
import { ChildSpawner } from '../process/spawn.ts';
import { Runc } from '../runc/runc.ts';
import { type AttemptDeps, type AttemptInput, attemptRestore } from './attempt.ts';
import { RestoreError } from './error.ts';
import type { LazyMemory } from './lazy/lazy-memory.ts';
import { grantsOf, noRights } from './no-rights.test-helper.ts';
import { excessInProc } from './proc-rights.ts';
import { rightsFromStatus } from './rights.ts';

const fixtures = join(import.meta.dirname, '../../test/fixtures/criu-4.2');
let dir: string;
let done: string[];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'attempt-'));
  await mkdir(join(dir, 'bundle/work'), { recursive: true });
  await cp(fixtures, join(dir, 'files'), { recursive: true });
  done = [];
});
afterEach(() => rm(dir, { recursive: true }));

/** Stands in for runc: a shell script that gets runc's arguments. */
async function fakeRunc(script: string, name = 'fake-runc'): Promise<Runc> {
  const binary = join(dir, name);
  await writeFile(binary, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const env = { PATH: '/usr/bin:/bin', DIR: dir };
  return new Runc({ binary, root: join(dir, 'root'), systemdCgroup: false, env }, new ChildSpawner(native));
}

const input = (runc: Runc, change: Partial<AttemptInput> = {}): AttemptInput => ({
  namespace: 'n',
  id: 'c',
  bundle: join(dir, 'bundle'),
  stdio: ['ignore', 'ignore', 'ignore'],
  pidFile: join(dir, 'bundle/init.pid'),
  workDir: join(dir, 'bundle/work'),
  runc,
  log: pino({ level: 'silent' }),
  noPivot: false,
  spec: { process: { capabilities: { bounding: ['CAP_KILL', 'CAP_NET_BIND_SERVICE', 'CAP_AUDIT_WRITE'] } } },
  imagesDir: join(dir, 'files'),
  checkpoint: {},
  afterRestore: {},
  deadlineMs: 20_000,
  ...change,
});

const deps = (change: Partial<AttemptDeps> = {}): AttemptDeps => ({
  namespaceFiles: { read: () => undefined, write: () => {} },
  checkImages: async () => {},
  fillShared: async () => undefined,
  telling: () => ({
    before: () => done.push('before'),
    running: async (pid) => {
      done.push(`running ${alive(pid)}`);
    },
    takeBack: () => done.push('takeBack'),
  }),
  imageRights: async () => noRights,
  grants: grantsOf,
  excessInProc: async () => [],
  cgroupDirs: async () => [],
  fillShm: async () => undefined,
  removeTraces: async () => {
    done.push('removeTraces');
  },
  ...change,
});

function alive(pid: number): boolean {
  return process.kill(pid, 0);
}

/** Gone, or a zombie until whoever adopted it has reaped it. */
async function isGone(pid: number): Promise<boolean> {
  // A signal takes effect when its process runs next.
  for (let look = 0; look < 200; look++) {
    const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    if (state === '' || /\) [ZX] /.test(state)) return true;
    await sleep(10);
  }
  return false;
}

describe('attemptRestore', () => {
  it('gives CRIU private images, and ends what has more rights after the restore than the pod grants', async () => {
    const runc = await fakeRunc(
      'cp "$DIR/bundle/criu.conf" "$DIR/conf"; ls "$DIR/bundle/work/images" > "$DIR/images"; sleep 60 & echo $! > "$DIR/bundle/init.pid"; cp "$DIR/bundle/init.pid" "$DIR/pid"',
    );
    // The stand-in for the restored process has all of root's rights.
    const attempt = attemptRestore(input(runc, { spec: { process: {} } }), deps({ excessInProc }));
    await expect(attempt).rejects.toMatchObject({ code: Code.permissionDenied });
    expect(await readFile(join(dir, 'conf'), 'utf8')).toMatch(/^tcp-close$/m);
    expect(await readFile(join(dir, 'images'), 'utf8')).toMatch(/^core-1.img$/m);
    expect(await isGone(Number(await readFile(join(dir, 'pid'), 'utf8')))).toBe(true);
    // With too many rights it is told nothing.
    expect(done).toEqual(['before', 'removeTraces', 'takeBack']);
  });

  it('answers the pid that runc wrote', async () => {
    const runc = await fakeRunc('sleep 60 & echo $! > "$DIR/bundle/init.pid"');
    const { pid } = await attemptRestore(input(runc), deps());
    expect(done).toEqual(['before', 'running true']);
    expect(`${pid}\n`).toBe(await readFile(join(dir, 'bundle/init.pid'), 'utf8'));
    process.kill(pid, 'SIGKILL');
  });

  it('ends a process that the command after the restore fails for', async () => {
    const runc = await fakeRunc(
      'sleep 60 & echo $! > "$DIR/bundle/init.pid"; cp "$DIR/bundle/init.pid" "$DIR/pid"',
    );
    const running = async () => {
      throw new RestoreError(Code.aborted, 'the command failed');
    };
    const telling = () => ({ before: () => {}, running, takeBack: () => done.push('takeBack') });
    await expect(attemptRestore(input(runc), deps({ telling }))).rejects.toThrow('the command failed');
    expect(await isGone(Number(await readFile(join(dir, 'pid'), 'utf8')))).toBe(true);
    expect(done).toEqual(['removeTraces', 'takeBack']);
  });

  it('says what memory could not be had before it ends the process', async () => {
    const runc = await fakeRunc('sleep 60 & echo $! > "$DIR/bundle/init.pid"');
    let lose: (error: RestoreError) => void = () => {};
    const served = { attach: (_: number, onFailed: typeof lose) => (lose = onFailed) };
    const memory = { images: new Map(), start: async () => served as unknown as LazyMemory };
    const said: string[] = [];
    const { pid } = await attemptRestore(
      input(runc, { memory, memoryLost: (reason) => said.push(`${reason}, ${alive(pid)}`) }),
      deps(),
    );
    lose(new RestoreError(Code.dataLoss, 'a chunk is corrupt'));
    expect(said).toEqual(['a chunk is corrupt, true']);
    expect(await isGone(pid)).toBe(true);
  });

  it('ends everything that a hung restore started, and undoes it', async () => {
    const runc = await fakeRunc('sleep 60 & echo $! > "$DIR/child"; sleep 60');
    const began = performance.now();
    await expect(attemptRestore(input(runc, { deadlineMs: 500 }), deps())).rejects.toMatchObject({
      code: Code.deadlineExceeded,
      message: expect.stringMatching(/did not end within 500 ms/),
    });
    expect(performance.now() - began).toBeLessThan(10_000);
    expect(done).toEqual(['before', 'removeTraces', 'takeBack']);
    const child = Number(await readFile(join(dir, 'child'), 'utf8'));
    expect(await isGone(child)).toBe(true);
    expect(await procTree.childrenOf(child)).toEqual([]);
    expect(await readdir(join(dir, 'bundle/work'))).not.toContain('images');
    expect(await readFile(join(dir, 'bundle/criu.conf'), 'utf8')).toBe('');
  });

  it('leaves runc the time to undo what it had run, when a restore hangs', async () => {
    const runc = await fakeRunc('sleep 60; echo undone > "$DIR/undone"; exit 1');
    await expect(attemptRestore(input(runc, { deadlineMs: 500 }), deps())).rejects.toMatchObject({
      code: Code.deadlineExceeded,
    });
    expect(await readFile(join(dir, 'undone'), 'utf8')).toBe('undone\n');
  });

  it('takes no restore for one that came through as it was ended', async () => {
    const runc = await fakeRunc('echo $$ > "$DIR/bundle/init.pid"; sleep 60; exit 0');
    await expect(attemptRestore(input(runc, { deadlineMs: 500 }), deps())).rejects.toMatchObject({
      code: Code.deadlineExceeded,
    });
  });

  it('runs poststart hooks, which runc leaves out, and ends a process for which one fails', async () => {
    const runc = await fakeRunc('sleep 60 & echo $! > "$DIR/bundle/init.pid"', 'runc');
    const restore = (status: number) => {
      const args = ['sh', '-c', `cat > "$DIR/state"; pwd > "$DIR/cwd"; exit ${status}`];
      const poststart = [{ path: '/bin/sh', args, env: [`DIR=${dir}`] }];
      return attemptRestore(input(runc, { spec: { annotations: { a: 'b' }, hooks: { poststart } } }), deps());
    };
    const said = async () => JSON.parse(await readFile(join(dir, 'state'), 'utf8')) as { pid: number };
    const bundle = join(dir, 'bundle');
    const { pid } = await restore(0);
    const annotations = { a: 'b' };
    const ociVersion = '1.0.0';
    expect(await said()).toEqual({ ociVersion, id: 'c', status: 'running', pid, bundle, annotations });
    expect(await readFile(join(dir, 'cwd'), 'utf8')).toBe(`${bundle}\n`);
    process.kill(pid, 'SIGKILL');
    await expect(restore(3)).rejects.toThrow('The poststart hook /bin/sh ended with 3');
    expect(await isGone((await said()).pid)).toBe(true);
  });

  it('quotes CRIU, and keeps its log', async () => {
    const runc = await fakeRunc(
      'echo "(00.1) Error (criu/mount.c:3141): mnt: No mapping for 198" > "$DIR/bundle/work/criu/restore.log"; exit 1',
    );
    await expect(attemptRestore(input(runc), deps())).rejects.toThrow(/CRIU: mnt: No mapping for 198/);
    expect(await readFile(join(dir, 'bundle/criu-restore.log'), 'utf8')).toMatch(/No mapping/);
  });

  it('does not run CRIU for images that ask for more than the pod grants', async () => {
    const runc = await fakeRunc('touch "$DIR/ran"');
    const imageRights = async () => ({
      ...noRights,
      tasks: [{ ...rightsFromStatus(1, ''), capPermitted: 1n << 21n }],
    });
    await expect(attemptRestore(input(runc), deps({ imageRights }))).rejects.toMatchObject({
      code: Code.permissionDenied,
      message: expect.stringMatching(/CAP_SYS_ADMIN/),
    });
    expect(await readdir(dir)).not.toContain('ran');
  });

  it('puts back what CRIU changed in the pod, also after a failure', async () => {
    const runc = await fakeRunc('exit 1');
    const names = ['new-pod', 'old-pod'];
    const written: string[] = [];
    const namespaceFiles = {
      read: (path: string) => (path.endsWith('kernel/hostname') ? (names.shift() ?? '') : undefined),
      write: (path: string, value: string) => {
        written.push(`${path}=${value}`);
      },
    };
    const spec = { linux: { namespaces: [{ type: 'uts', path: '/ns' }] } };
    await expect(attemptRestore(input(runc, { spec }), deps({ namespaceFiles }))).rejects.toThrow();
    expect(written).toEqual(['/proc/sys/kernel/hostname=new-pod']);
  });
});
