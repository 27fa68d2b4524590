import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DUMP_FACTS_FILE, type DumpFacts } from '../../checkpoint/facts.ts';
import { TRIAL_LOSS_FILE } from '../../checkpoint/trial-files.ts';
import { Code } from '../../proto/status.ts';
import { silent } from '../task/fakes.ts';
import type { PlanInput } from '../task/start-plan.ts';
import { RestoreError } from './error.ts';
import { FakeRestore, nothingToDo } from './fake-restore.test-helper.ts';
import { type GivenDeps, planGiven, savedFacts, writeLoss } from './given-images.ts';
import { createStartPlanner } from './index.ts';

const cuda = { program: '/nowhere/thaw-cuda', libcuda: '', nvml: '' };
const planner = createStartPlanner({ daemonSocket: '/none', guardProgram: '/nowhere/guard', cuda });
const rootfs = [{ type: 'overlay', source: 'overlay', target: '', options: ['lowerdir=/b:/a'] }];
const input = (checkpoint: PlanInput['checkpoint']): PlanInput => ({
  namespace: 'n',
  id: 'c',
  bundle: '/b',
  rootfs,
  checkpoint,
  spec: {},
  runc: undefined as never,
  log: silent,
});

describe('images that the caller names', () => {
  it('are restored or fail, on the mounts as they are given', async () => {
    const plan = await planner(input({ imagePath: '/nonexistent/images', workPath: '' }));
    expect(plan).toMatchObject({ kind: 'restore', required: true, rootfs });
  });

  it('leave the reason where memory is lost, for whoever asked for a trial', async () => {
    const workPath = await mkdtemp(join(tmpdir(), 'given-'));
    try {
      writeLoss(workPath, 'a chunk is corrupt');
      expect(await readFile(join(workPath, TRIAL_LOSS_FILE), 'utf8')).toBe('a chunk is corrupt');
      expect(() => writeLoss(join(workPath, 'gone'), 'a chunk is corrupt')).not.toThrow();
    } finally {
      await rm(workPath, { recursive: true });
    }
  });

  it('are restored without hooks that no restore runs, which the log says unless that is accepted', async () => {
    const bundle = await mkdtemp(join(tmpdir(), 'given-'));
    const warnings = async (annotations: Record<string, string>) => {
      const said: string[] = [];
      const log = pino({ level: 'warn' }, { write: (line) => void said.push(line) });
      const fake = new FakeRestore(bundle);
      const hooks = { createContainer: [{ path: '/bin/network' }], poststart: [{ path: '/bin/late' }] };
      const images = { imagePath: join(import.meta.dirname, '../../test/fixtures/criu-4.2'), workPath: '' };
      const asked = { ...input(images), bundle, log, runc: fake.runc, spec: { hooks, annotations } };
      const deps: GivenDeps = {
        ...nothingToDo,
        removeTraces: async () => {},
        prepareRecorded: async () => undefined,
        savedFacts: async () => undefined,
        prepareGpu: () => Promise.reject(),
        unmountRootfs: async () => {},
        mountRootfs: async () => {},
      };
      const dirs = { pidFile: join(bundle, 'init.pid'), workDir: join(bundle, 'work') };
      const stdio = ['ignore', 'ignore', 'ignore'] as const;
      await planGiven(asked, images, deps).restore({ ...asked, ...dirs, stdio, noPivot: false });
      fake.end();
      return said.filter((line) => line.includes('without hooks'));
    };
    try {
      const [warning = '{}', ...others] = await warnings({});
      expect(JSON.parse(warning)).toMatchObject({
        container: 'c',
        reasons: ['the container has the createContainer hook /bin/network, which no restore runs'],
      });
      expect(others).toEqual([]);
      expect(await warnings({ 'thaw.dev/restore-except': 'hooks' })).toEqual([]);
    } finally {
      await rm(bundle, { recursive: true });
    }
  });

  it('are nothing that another container is restored from', async () => {
    expect(await planner(input(undefined))).toEqual({ kind: 'cold', rootfs });
  });
});

describe('a GPU part that fails', () => {
  let dir: string;
  let upper: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'given-'));
    upper = join(dir, 'upper');
    for (const name of ['upper', 'bundle']) await mkdir(join(dir, name));
  });
  afterEach(() => rm(dir, { recursive: true }));

  /** With so many failures of the GPU's part; a process stands in for the restored one. */
  async function restore(failures: number, error = new RestoreError(Code.resourceExhausted, 'it is full')) {
    const fake = new FakeRestore(upper);
    const bundle = join(dir, 'bundle');
    let left = failures;
    const deps: GivenDeps = {
      ...nothingToDo,
      removeTraces: fake.note('removeTraces'),
      prepareRecorded: async () => undefined,
      savedFacts: async () => ({ cuda: { driver: '1', gpus: [], processes: [] } }) as unknown as DumpFacts,
      prepareGpu: async () => ({
        differences: async () => [],
        async resume() {
          if (left-- > 0) throw error;
        },
        close: () => void fake.done.push('close'),
      }),
      unmountRootfs: fake.note('unmount'),
      mountRootfs: fake.note('mount'),
    };
    const images = { imagePath: join(import.meta.dirname, '../../test/fixtures/criu-4.2'), workPath: '' };
    const mounts = [
      {
        type: 'overlay',
        source: 'overlay',
        target: '',
        options: ['lowerdir=/b:/a', `upperdir=${upper}`, 'workdir=/w'],
      },
    ];
    const asked = { ...input(images), rootfs: mounts, bundle, runc: fake.runc };
    try {
      const outcome = await planGiven(asked, images, deps).restore({
        ...asked,
        stdio: ['ignore', 'ignore', 'ignore'],
        pidFile: join(bundle, 'init.pid'),
        workDir: join(bundle, 'work'),
        noPivot: false,
      });
      return { outcome, done: fake.done };
    } finally {
      fake.end();
    }
  }

  it('is tried once more from CRIU on, with nothing left of the first try', async () => {
    const { outcome, done } = await restore(1);
    expect(outcome.kind).toBe('restored');
    expect(done).toEqual(['restore', 'removeTraces', 'unmount', 'mount', 'restore', 'close']);
  });

  it('is an error after the second', async () => {
    const { outcome, done } = await restore(2);
    expect(outcome).toMatchObject({ kind: 'failed', reason: 'it is full' });
    expect(done.filter((step) => step === 'restore')).toHaveLength(2);
  });

  it('is an error at once where files that were there may have changed, and for images that lack a process', async () => {
    expect((await restore(1, new RestoreError(Code.dataLoss, 'x'))).outcome.kind).toBe('failed');
    await rm(join(upper, 'left'));
    await writeFile(join(upper, 'data'), '');
    const { outcome, done } = await restore(1);
    expect(outcome.kind).toBe('failed');
    expect(done).toEqual(['restore', 'removeTraces', 'close']);
    expect(existsSync(join(upper, 'data'))).toBe(true);
  });
});

describe('what our dump says beside images', () => {
  it('is nothing where no dump of ours is, and an error where it is not what one leaves', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'given-'));
    try {
      expect(await savedFacts(join(dir, 'nowhere'))).toBeUndefined();
      expect(await savedFacts(dir)).toBeUndefined();
      const facts = join(dir, DUMP_FACTS_FILE);
      for (const text of ['no JSON', '{"cuda":{}}']) {
        await writeFile(facts, text);
        await expect(savedFacts(dir)).rejects.toThrow(/thaw-dump.json.*checkpoint again/);
      }
      await rm(facts);
      await symlink('/etc/passwd', facts);
      await expect(savedFacts(dir)).rejects.toThrow('no regular file');
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
