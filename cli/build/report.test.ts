import { describe, expect, it } from 'vitest';
import { sampleFacts } from '../../checkpoint/facts.test-helper.ts';
import type { CheckpointFacts } from '../../checkpoint/facts.ts';
import { hindrances } from './portability.ts';
import { type Built, builtJson, builtLines, planJson, planLines } from './report.ts';
import { parseBuildSpec } from './spec.ts';

const spec = parseBuildSpec(
  `
image = "base/server:1"
env = { TOKEN = "secret" }
[[mounts]]
source = "/srv/w"
destination = "/weights"
read_only = true
[ready]
log_line = "up"
[[warm_up]]
http = { port = 80 }
times = 3
[quiesce]
exec = ["/rest"]
until = { file = "/quiet" }
`,
  'toml',
);

const facts: CheckpointFacts = {
  ...sampleFacts(2),
  verified: true,
  memoryBytes: 3 << 20,
  launch: { ...sampleFacts(2).launch, env: ['PATH=/usr/bin', 'TOKEN=secret'] },
};

const built: Built = {
  base: 'base/server:1',
  spec,
  pushedBytes: 2048,
  saved: {
    ...{ reference: 'r.example/a:b', digest: 'sha256:1', container: 'thaw-build-1', facts },
    ...{ stopped: true, verified: true, checkpointLayers: 2 },
    ...{ fileBytes: 4 << 20, decodedBytes: 3 << 20, storedBytes: 1 << 20, diffBytes: undefined },
    ...{ pushedBytes: 1024, imageBytes: 5 << 20, pausedMs: undefined },
    steps: [{ label: 'Packing', ms: 1234 }],
  },
};

describe('hindrances()', () => {
  const kinds = (changed: Partial<CheckpointFacts>) =>
    hindrances({ ...facts, ...changed }).map(({ kind }) => kind);
  const textOf = (kind: string, changed: Partial<CheckpointFacts>) =>
    hindrances({ ...facts, ...changed })
      .filter((hindrance) => hindrance.kind === kind)
      .map(({ text }) => text)
      .join('\n');

  it('of every checkpoint', () => expect(kinds({})).toEqual(['cpu', 'criu', 'cgroup', 'memory', 'launch']));
  it('one that was not tried', () => expect(kinds({ verified: false })[0]).toBe('unverified'));
  it('CPU features that not every server has are named', () => {
    const host = { ...facts.host, cpuFlags: ['avx2', 'avx512f', 'sse4_2', 'vaes'] };
    expect(textOf('cpu', { host })).toBe(
      'a node needs amd64 and the CPU features of this one (4), avx512f vaes among them',
    );
    expect(textOf('cpu', {})).not.toContain('among them');
  });
  it('mounts that a pod does not have by itself are named', () => {
    const mounts = [
      ...facts.mounts,
      { destination: '/etc/hosts', type: 'bind', readOnly: false },
      { destination: '/weights', type: 'bind', readOnly: true },
      { destination: '/data', type: 'bind', readOnly: false },
    ];
    expect(textOf('mount', { mounts })).toBe('a pod must mount /weights (read-only), /data');
  });
  it('a user that is not root, and GPUs', () => {
    expect(textOf('launch', { launch: { ...facts.launch, uid: 1000, gid: 1001 } })).toContain('1000:1001');
    const gpu = { uuid: 'GPU-1', name: 'H100', memoryBytes: 1, minor: 0 };
    const cuda = { driver: '580.1', gpus: [gpu, gpu], processes: [{ pid: 1, bytes: 1 }] };
    expect(textOf('gpu', { cuda })).toBe('a pod needs 2 GPU of the kind H100, and driver 580.1 or later');
  });
});

describe('the report', () => {
  it('says what is in it and how large it is', () => {
    const text = builtLines(built).join('\n');
    for (const said of [
      'Digest       sha256:1',
      'Verified     it was restored on this node, and works',
      'Memory       3.00 MiB in 1 processes',
      '1.00 MiB in 2 layers (3.00× smaller; 1.00 MiB of zeros left out)',
      '2.00 KiB of an image of 5.00 MiB',
      '  1 server (3 threads)',
      'Packing  1.2 s',
    ])
      expect(text).toContain(said);
  });
  it('has no value of the environment in it', () => {
    const json = builtJson(built);
    expect(json).toMatchObject({
      image: 'r.example/a:b',
      base: 'base/server:1',
      verified: true,
      pushedBytes: 2048,
    });
    expect(json).toMatchObject({ launch: { env: ['PATH', 'TOKEN'] } });
    expect(JSON.stringify(json) + builtLines(built).join()).not.toContain('secret');
  });
});

describe('a dry run', () => {
  const launch = { args: ['/server', '-v'], cwd: '/', env: ['TOKEN=secret'] };
  const plan = {
    target: 'r.example/a:b',
    base: 'base/server:1',
    baseBytes: 1024,
    local: false,
    launch,
    spec,
  };
  it('says what would be done', () => {
    const text = planLines(plan).join('\n');
    for (const said of [
      'Command      /server -v',
      'Mount        /srv/w at /weights, read-only',
      'when a line of its output matches /up/, within 600 s',
      'Warm-up      3 requests',
      'exec /rest, when /quiet is there',
      'Nothing was started and nothing pushed.',
    ])
      expect(text).toContain(said);
    expect(text).not.toContain('secret');
  });
  it('and in JSON', () => {
    expect(planJson(plan)).toMatchObject({
      dryRun: true,
      local: false,
      warmUps: 3,
      launch: { env: ['TOKEN'] },
    });
  });
});
