import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { CheckpointFacts } from '../../checkpoint/facts.ts';
import { hostFacts } from '../../checkpoint/host-facts.ts';
import { Code } from '../../proto/status.ts';
import type { Runc } from '../runc/runc.ts';
import type { PlanInput, RestoreInput, StartPlan } from '../task/start-plan.ts';
import { capabilityNames } from './capabilities.ts';
import { RestoreError } from './error.ts';
import { FakeRestore, nothingToDo } from './fake-restore.test-helper.ts';
import { overlayOf } from './layers.ts';
import { type PlanDeps, planRestore } from './plan.ts';
import type { StartReport } from './report.ts';

const digest = `sha256:${'a'.repeat(64)}`;
const layer = { digest, diffId: digest, mediaType: 'application/vnd.oci.image.layer.v1.tar', size: 1 };
const node = { thaw: '1', kernel: '6', criu: '4.2', runc: '1.3', driver: '', boot: 'b' };
const spec = { process: { args: ['/server'], env: ['A=1'] }, mounts: [] };
let upper: string;
let facts: CheckpointFacts;

beforeEach(async () => {
  upper = await mkdtemp(join(tmpdir(), 'plan-'));
  facts = {
    formatVersion: 1,
    created: '2026-01-01T00:00:00Z',
    image: { reference: 'r', configDigest: digest },
    layers: { checkpoint: 2, base: [layer], diff: layer },
    launch: { args: ['/server'], cwd: '/', uid: 0, gid: 0, additionalGids: [], env: ['A=1'] },
    host: await hostFacts({ criu: '4.2', runc: '1.3' }),
    mounts: [],
    processes: [],
    memoryBytes: 0,
    annotations: {},
  };
});
afterEach(() => rm(upper, { recursive: true }));

function rootfs() {
  const options = ['index=off', `upperdir=${upper}`, 'workdir=/w', 'lowerdir=/diff:/base:/data:/index'];
  return [{ type: 'overlay', source: 'overlay', target: '', options }];
}

const fakeDeps = (change: Partial<PlanDeps> = {}): PlanDeps => ({
  ...nothingToDo,
  daemon: {
    locate: async () => ({
      id: digest,
      checkpointJson: Buffer.from(JSON.stringify(facts)),
      imagesDir: '/images',
      lockFile: '/lock',
      indexFile: '/index',
    }),
    awaitComplete: async () => {},
  },
  versions: async () => ({ criu: '4.2', runc: '1.3' }),
  prepareGpu: async () => {
    throw new Error('nothing is on a GPU');
  },
  lockShared: async () => async () => {},
  unmountRootfs: async () => {},
  mountRootfs: async () => {},
  prepareMemory: async () => undefined,
  report: () => {},
  failures: { find: () => undefined, add: () => {} },
  node: async () => node,
  afterMemory: async () => {},
  removeTraces: async () => {},
  ...change,
});

function plan(deps = fakeDeps(), change: Partial<PlanInput['spec']> = {}): Promise<StartPlan> {
  const mounts = rootfs();
  const overlay = overlayOf(mounts);
  if (!overlay) throw new Error('no overlay');
  const input: PlanInput = {
    namespace: 'n',
    id: 'c',
    bundle: '/b',
    rootfs: mounts,
    spec: { ...spec, ...change },
    runc: {} as Runc,
    log: pino({ level: 'silent' }),
  };
  return planRestore(input, overlay, Buffer.from(JSON.stringify(facts)), deps);
}

const lowerDirs = ({ rootfs: mounts }: StartPlan) => overlayOf(mounts)?.lowerDirs;

const failure = (checkpoint: string, shape: string) => ({
  checkpoint,
  shape,
  at: '2026-01-02',
  reason: 'CRIU gave up',
  node,
});

const startInput: RestoreInput = {
  namespace: 'n',
  id: 'c',
  bundle: '/b',
  stdio: ['ignore', 'ignore', 'ignore'],
  pidFile: '/p',
  workDir: '/w',
  runc: {} as Runc,
  log: pino({ level: 'silent' }),
  noPivot: false,
};

describe('planRestore', () => {
  it('restores what matches, over diff and base', async () => {
    const made = await plan();
    expect(made.kind).toBe('restore');
    expect(lowerDirs(made)).toEqual(['/diff', '/base']);
  });

  it.each([
    [
      'another argument',
      () => plan(fakeDeps(), { process: { args: ['/other'], env: ['A=1'] } }),
      /command line/,
    ],
    [
      'a terminal',
      () => plan(fakeDeps(), { process: { ...spec.process, terminal: true } }),
      /has a terminal/,
    ],
    [
      'a user namespace',
      () => plan(fakeDeps(), { linux: { namespaces: [{ type: 'pid' }, { type: 'user' }] } }),
      /user namespace of its own/,
    ],
    ['the annotation off', () => plan(fakeDeps(), { annotations: { 'thaw.dev/restore': 'off' } }), /"off"/],
    [
      'an older CRIU',
      () => plan(fakeDeps({ versions: async () => ({ criu: '4.1', runc: '1.3' }) })),
      /older 4.1/,
    ],
    [
      'a failure before',
      () => plan(fakeDeps({ failures: { find: failure, add: () => {} } })),
      /failed on this node at 2026-01-02, .*: CRIU gave up \(thaw retry sha256:aaaaaaaaaaaa\)/,
    ],
    [
      'an annotation that is not understood',
      () => plan(fakeDeps(), { annotations: { 'thaw.dev/restore': 'always' } }),
      /"always"; use auto, require or off/,
    ],
  ])('starts cold on the base alone with %s', async (_, make, reason) => {
    const made = await make();
    expect(made).toMatchObject({ kind: 'cold', reason: expect.stringMatching(reason) });
    expect(lowerDirs(made)).toEqual(['/base']);
  });

  it('says every reason at once', async () => {
    const made = await plan(fakeDeps({ versions: async () => ({ criu: '4.1.1', runc: '1.3' }) }), {
      process: { args: ['/other'], env: [], terminal: true },
      annotations: { 'thaw.dev/restore-except': 'colour' },
    });
    if (made.kind !== 'cold') throw new Error('not cold');
    expect(made.reasons).toEqual([
      expect.stringMatching(/has "colour"/),
      'the container has a terminal',
      expect.stringMatching(/command line/),
      'environment variable A is not set now',
      expect.stringMatching(/older 4.1/),
    ]);
    expect(made.reason).toBe(made.reasons?.join('; '));
  });

  it('keeps every layer but the checkpoint where the layers are those of another image', async () => {
    const daemon = {
      ...fakeDeps().daemon,
      locate: async () => {
        throw new RestoreError(Code.failedPrecondition, 'the base image differs');
      },
    };
    const made = await plan(fakeDeps({ daemon }));
    expect(made).toMatchObject({ kind: 'cold', reason: 'the base image differs' });
    expect(lowerDirs(made)).toEqual(['/diff', '/base']);
  });

  it('starts cold on the base alone where the daemon does not answer', async () => {
    const daemon = {
      ...fakeDeps().daemon,
      locate: async () => {
        throw new RestoreError(Code.unavailable, 'Cannot connect');
      },
    };
    expect(lowerDirs(await plan(fakeDeps({ daemon })))).toEqual(['/base']);
  });

  it('is an error under "require", and names the reason', async () => {
    const annotations = { 'thaw.dev/restore': 'require' };
    await expect(plan(fakeDeps(), { annotations, process: { args: ['/other'] } })).rejects.toThrow(
      /"require": .*command line/,
    );
  });

  it('turns a checkpoint that did not arrive into a cold start, and gives its lock back once', async () => {
    const unlock = vi.fn(async () => {});
    const daemon = {
      ...fakeDeps().daemon,
      awaitComplete: async () => {
        throw new RestoreError(Code.unavailable, 'registry is gone');
      },
    };
    const reports: StartReport[] = [];
    const report = (told: StartReport) => void reports.push(told);
    const made = await plan(fakeDeps({ daemon, report, lockShared: async () => unlock }));
    if (made.kind !== 'restore') throw new Error('not a restore');
    const outcome = await made.restore(startInput);
    expect(outcome).toMatchObject({ kind: 'failed', reason: 'registry is gone' });
    await made.release();
    expect(unlock).toHaveBeenCalledOnce();
    expect(reports).toEqual([
      {
        namespace: 'n',
        containerId: 'c',
        checkpointId: digest,
        outcome: 'failed',
        phase: 'fetch',
        reason: 'registry is gone',
        times: { plan: expect.any(Number) },
      },
    ]);
  });

  it.each([
    ['CRIU gives up', Code.internal, 1],
    ['the pod grants less', Code.permissionDenied, 0],
    ['the disk is full', Code.resourceExhausted, 0],
  ] as const)('remembers whether it is worth another try where %s', async (reason, code, times) => {
    const add = vi.fn();
    const checkImages = async () => {
      throw new RestoreError(code, reason);
    };
    const made = await plan(fakeDeps({ checkImages, failures: { find: () => undefined, add } }));
    if (made.kind !== 'restore') throw new Error('not a restore');
    const workDir = await mkdtemp(join(tmpdir(), 'work-'));
    const outcome = await made.restore({ ...startInput, bundle: workDir, workDir });
    await rm(workDir, { recursive: true });
    expect(outcome).toMatchObject({ kind: 'failed', reason });
    expect(add).toHaveBeenCalledTimes(times);
    if (times > 0) expect(add.mock.calls[0]?.[0]).toMatchObject({ checkpoint: digest, reason, node });
  });
});

describe('a GPU part that fails after CRIU', () => {
  const gpu = { uuid: `GPU-${'0'.repeat(36)}`, name: 'Fake H100', memoryBytes: 1, minor: 0 };
  const all = Array.from({ length: 41 }, (_, bit) => 1n << BigInt(bit)).reduce((sum, bit) => sum | bit, 0n);
  /** The stand-in for the restored process has all of root's rights. */
  const process = { ...spec.process, capabilities: { bounding: capabilityNames(all) } };

  /** Fails so often; what was done, in order. A restore that does not find a clean upper directory says so. */
  async function restore(failures: readonly Error[]) {
    const fake = new FakeRestore(upper);
    const left = [...failures];
    facts.cuda = { driver: '580', gpus: [gpu], processes: [{ pid: 1, bytes: 1 }] };
    const located = await fakeDeps().daemon.locate({ namespace: 'n', containerId: 'c', lowerDirs: [] });
    const deps = fakeDeps({
      daemon: {
        ...fakeDeps().daemon,
        locate: async () => ({
          ...located,
          checkpointJson: Buffer.from(JSON.stringify(facts)),
          imagesDir: join(import.meta.dirname, '../../test/fixtures/criu-4.2'),
        }),
      },
      prepareGpu: async () => ({
        differences: async () => [],
        async resume() {
          const failure = left.shift();
          if (failure) throw failure;
        },
        close: () => void fake.done.push('close'),
      }),
      removeTraces: fake.note('removeTraces'),
      unmountRootfs: fake.note('unmount'),
      mountRootfs: async (_, mounts) =>
        void fake.done.push(`mount ${overlayOf(mounts)?.lowerDirs.join(':')}`),
    });
    const bundle = await mkdtemp(join(tmpdir(), 'bundle-'));
    try {
      const made = await plan(deps, { process });
      if (made.kind !== 'restore') throw new Error(made.reason);
      const outcome = await made.restore({
        ...startInput,
        bundle,
        pidFile: join(bundle, 'init.pid'),
        workDir: join(bundle, 'work'),
        runc: fake.runc,
      });
      return { outcome, done: fake.done };
    } finally {
      fake.end();
      await rm(bundle, { recursive: true });
    }
  }
  const stuck = () => new RestoreError(Code.resourceExhausted, 'the GPU is full');
  const undone = ['removeTraces', 'unmount'];

  it('is ended where there is no plan: the checkpoint is just being evicted', async () => {
    facts.cuda = { driver: '580', gpus: [gpu], processes: [{ pid: 1, bytes: 1 }] };
    const close = vi.fn();
    const deps = fakeDeps({
      prepareGpu: async () => ({ differences: async () => [], resume: async () => {}, close }),
      lockShared: async () => {
        throw new RestoreError(Code.unavailable, 'it is being evicted');
      },
    });
    await expect(plan(deps, { process })).rejects.toThrow('it is being evicted');
    expect(close).toHaveBeenCalled();
  });

  it('is tried once more from CRIU on, with nothing left of the first try', async () => {
    const { outcome, done } = await restore([stuck()]);
    expect(outcome.kind).toBe('restored');
    expect(done).toEqual(['restore', ...undone, 'mount /diff:/base', 'restore', 'close']);
  });

  it('is a cold start after the second', async () => {
    const { outcome, done } = await restore([stuck(), stuck()]);
    expect(outcome).toMatchObject({ kind: 'failed', reason: 'the GPU is full' });
    if (outcome.kind === 'failed') expect(overlayOf(outcome.rootfs)?.lowerDirs).toEqual(['/base']);
    expect(done).toEqual(['restore', ...undone, 'mount /diff:/base', 'restore', ...undone, 'close']);
    expect(existsSync(join(upper, 'left'))).toBe(false);
  });

  it('is a cold start at once where the images lack something', async () => {
    const { outcome, done } = await restore([new RestoreError(Code.dataLoss, 'process 7 is missing')]);
    expect(outcome).toMatchObject({ kind: 'failed', reason: 'process 7 is missing' });
    expect(done).toEqual(['restore', ...undone, 'close']);
  });
});
