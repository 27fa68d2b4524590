import { describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { Cleanup } from '../cleanup.ts';
import type { Containerd } from '../containerd/index.ts';
import { CliError } from '../error.ts';
import { Progress } from '../ui/progress.ts';
import { dumpFrozen, EMPTY_TAR, killFrozen } from './freeze.ts';

const DIFF = { mediaType: 'x', digest: `sha256:${'d'.repeat(64)}`, size: 10n, annotations: {} };
const DIFF_ID = `sha256:${'e'.repeat(64)}`;

/** A containerd that records what it is asked and fails where told. */
function fake(fail: Record<string, CliError> = {}, diffId = DIFF_ID) {
  const calls: string[] = [];
  const answer = async <T>(name: string, value: T): Promise<T> => {
    calls.push(name);
    const error = fail[name];
    if (error) throw error;
    return value;
  };
  const containerd = {
    tasks: {
      pause: () => answer('pause', undefined),
      resume: () => answer('resume', undefined),
      checkpoint: () => answer('dump', undefined),
      get: () => answer('get', { pid: 1, status: 'RUNNING', exitStatus: 0 }),
      kill: () => answer('kill', undefined),
      wait: () => answer('wait', 137),
    },
    content: { info: () => answer('info', { labels: { 'containerd.io/uncompressed': diffId } }) },
    diff: (_left: unknown, _right: unknown, type: string) => answer(`diff ${type.split('+')[1]}`, DIFF),
  } as unknown as Containerd;
  return { calls, containerd };
}

function freeze(
  containerd: Containerd,
  cleanup: Cleanup,
  { wasPaused = false, signal = new AbortController().signal, checkDump = async () => {} } = {},
) {
  const progress = new Progress({ write: () => true });
  const mounts = async () => ({ left: [], right: [] });
  const paths = { imagePath: '/i', workPath: '/w' };
  return dumpFrozen({
    containerd,
    undo: containerd,
    cleanup,
    progress,
    id: 'c1',
    wasPaused,
    signal,
    mounts,
    checkDump,
    clearImages: async () => {},
    ...paths,
  });
}

it('pauses, dumps, compares, and resumes once', async () => {
  const { calls, containerd } = fake();
  const cleanup = new Cleanup();
  const { diff, resume } = await freeze(containerd, cleanup);
  expect(diff).toEqual({ descriptor: DIFF, diffId: DIFF_ID });
  expect(calls).toEqual(['pause', 'dump', 'diff zstd', 'info']);
  await resume();
  await cleanup.run();
  expect(calls.filter((call) => call === 'resume')).toHaveLength(1);
});

it.each(['pause', 'dump', 'diff zstd', 'info'])('resumes when "%s" fails', async (step) => {
  const { calls, containerd } = fake({ [step]: new CliError(Code.internal, 'no') });
  const cleanup = new Cleanup();
  await expect(freeze(containerd, cleanup)).rejects.toThrow('no');
  expect(await cleanup.run()).toEqual([]);
  expect(calls.at(-1)).toBe('resume');
});

it('says that the container goes on when the dump fails, in the words of the shim', async () => {
  const { containerd } = fake({ dump: new CliError(Code.unknown, 'Cannot dump c1: io_uring is in use') });
  await expect(freeze(containerd, new Cleanup())).rejects.toThrow(
    'Cannot dump c1: io_uring is in use; c1 goes on running, and can be saved once it no longer uses that',
  );
});

it("leaves somebody else's pause alone", async () => {
  const { calls, containerd } = fake();
  const cleanup = new Cleanup();
  await (await freeze(containerd, cleanup, { wasPaused: true })).resume();
  await cleanup.run();
  expect(calls).not.toContain('pause');
  expect(calls).not.toContain('resume');
});

it('has no layer for a root file system that did not change', async () => {
  const { containerd } = fake({}, EMPTY_TAR);
  expect((await freeze(containerd, new Cleanup())).diff).toBeNull();
});

it('takes gzip where containerd knows no zstd', async () => {
  const { calls, containerd } = fake({ 'diff zstd': new CliError(Code.unimplemented, 'unsupported') });
  expect((await freeze(containerd, new Cleanup())).diff).not.toBeNull();
  expect(calls).toContain('diff gzip');
});

it('reports a container that stays paused, but not one that is gone', async () => {
  const stuck = fake({ resume: new CliError(Code.unknown, 'no answer') });
  stuck.containerd.tasks.get = async () => ({ pid: 1, status: 'PAUSED', exitStatus: 0 });
  const cleanup = new Cleanup();
  await freeze(stuck.containerd, cleanup);
  expect((await cleanup.run()).map(({ message }) => message)).toEqual([
    'Cannot resume c1; try "ctr tasks resume c1": no answer',
  ]);
  const gone = fake({ resume: new CliError(Code.notFound, 'no such task') });
  await freeze(gone.containerd, cleanup);
  expect(await cleanup.run()).toEqual([]);
});

it('kills before it lets go', async () => {
  const { calls, containerd } = fake();
  await killFrozen(containerd, 'c1', 1000);
  expect(calls).toEqual(['wait', 'kill', 'resume']);
});

it('lets a dump end before it obeys an interruption, then resumes', async () => {
  const { calls, containerd } = fake();
  const user = new AbortController();
  const dump = containerd.tasks.checkpoint;
  containerd.tasks.checkpoint = async (...args) => {
    user.abort();
    await dump(...args);
  };
  const cleanup = new Cleanup();
  const frozen = freeze(containerd, cleanup, { signal: user.signal });
  await expect(frozen).rejects.toMatchObject({ code: Code.canceled });
  await cleanup.run();
  expect(calls).toEqual(['pause', 'dump', 'resume']);
});

describe('a dump that finds a task between vfork and exec', () => {
  const stuck = new CliError(Code.unknown, 'Timeout reached. Unseizable non-zombie 4478 found, state D');

  it('lets the container run on for a moment, and tries again', async () => {
    const { calls, containerd } = fake({ dump: stuck });
    const { tasks } = containerd;
    let dumps = 0;
    const checkpoint: typeof tasks.checkpoint = async (...args) => {
      dumps += 1;
      if (dumps < 3) return tasks.checkpoint(...args);
      calls.push('dump');
    };
    const patient = { ...containerd, tasks: { ...tasks, checkpoint } };
    await freeze(patient, new Cleanup());
    const again = ['resume', 'pause', 'dump'];
    expect(calls).toEqual(['pause', 'dump', ...again, ...again, 'diff zstd', 'info']);
  });

  it('tries again too if the dump does not hold together', async () => {
    const { calls, containerd } = fake();
    let checks = 0;
    const checkDump = async () => {
      checks += 1;
      if (checks === 1) throw new CliError(Code.dataLoss, '0 cannot be a process id');
    };
    await freeze(containerd, new Cleanup(), { checkDump });
    expect(calls).toEqual(['pause', 'dump', 'resume', 'pause', 'dump', 'diff zstd', 'info']);
  });

  it('gives up in the end, and where somebody else paused the container', async () => {
    const tired = fake({ dump: stuck });
    await expect(freeze(tired.containerd, new Cleanup())).rejects.toThrow(/Unseizable/);
    expect(tired.calls.filter((call) => call === 'dump')).toHaveLength(4);
    const paused = fake({ dump: stuck });
    await expect(freeze(paused.containerd, new Cleanup(), { wasPaused: true })).rejects.toThrow(/Unseizable/);
    expect(paused.calls).not.toContain('resume');
  });
});
