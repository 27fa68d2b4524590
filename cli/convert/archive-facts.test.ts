import { describe, expect, it } from 'vitest';
import { sampleFacts } from '../../checkpoint/facts.test-helper.ts';
import { type ArchiveDocuments, archiveDocuments, readArchiveFacts } from './archive-facts.ts';

const host = {
  arch: 'amd64',
  kernel: '6.1',
  cpuFlags: ['avx2'],
  criu: '4.2',
  runc: '1.3',
  cgroup: 'v2',
} as const;

const spec = {
  process: {
    args: ['/server'],
    cwd: '/srv',
    env: ['HOSTNAME=pod', 'A=1'],
    user: { uid: 7, gid: 8, additionalGids: [9, 8] },
  },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid'] },
    { destination: '/w', source: '/x', options: ['rbind', 'ro'] },
  ],
  annotations: { 'io.kubernetes.cri.container-name': 'web' },
};

const json = (value: unknown) => Buffer.from(JSON.stringify(value));

function documents(changes: Partial<Record<keyof ArchiveDocuments, unknown>> = {}): ArchiveDocuments {
  const bytes = (name: 'config' | 'spec' | 'deleted' | 'facts', otherwise: unknown) => {
    const value = name in changes ? changes[name] : otherwise;
    return value === undefined ? undefined : Buffer.isBuffer(value) ? value : json(value);
  };
  return {
    config: bytes('config', { id: 'x', name: 'n', rootfsImageName: 'base:1' }),
    spec: bytes('spec', spec),
    deleted: bytes('deleted', undefined),
    facts: bytes('facts', undefined),
    log: '(00.000000) Version: 4.1.1 (gitid 0)\n(00.000001) Running on x',
  };
}

it('takes the fingerprint and the mounts from spec.dump, CRIU from its log, and the rest from this node', () => {
  expect(readArchiveFacts(documents({ deleted: ['/a'] }), { ...host, cpuFlags: ['avx2'] })).toEqual({
    dump: {
      launch: { args: ['/server'], cwd: '/srv', uid: 7, gid: 8, additionalGids: [8, 9], env: ['A=1'] },
      host: { ...host, criu: '4.1.1' },
      mounts: [
        { destination: '/proc', type: 'proc', readOnly: false },
        { destination: '/w', type: 'bind', readOnly: true },
      ],
    },
    imageName: 'base:1',
    containerName: 'web',
    engine: 'containerd',
    deleted: ['/a'],
  });
});

it.each([
  ['libpod', 'Podman'],
  ['cri-o', 'CRI-O'],
])('knows who made it: %s', (manager, engine) => {
  const made = documents({ spec: { ...spec, annotations: { 'io.container.manager': manager } } });
  expect(readArchiveFacts(made, { ...host, cpuFlags: [] })).toMatchObject({ engine, containerName: 'n' });
});

it('what thaw has written comes back as it was', () => {
  const facts = sampleFacts(2);
  const written = archiveDocuments(facts, { base: undefined, digest: 'sha256:ab' });
  const read = readArchiveFacts(
    documents({ config: written['config.dump'], spec: written['spec.dump'], facts: written['thaw.json'] }),
    { ...host, cpuFlags: [] },
  );
  const { launch, mounts, host: made } = facts;
  expect(read.dump).toEqual({ launch, mounts, host: made });
  expect(read.imageName).toBe(facts.image.reference);
  // And so it does without the document that only thaw writes.
  const others = documents({ config: written['config.dump'], spec: written['spec.dump'] });
  expect(readArchiveFacts(others, { ...host, cpuFlags: [] }).dump).toMatchObject({ launch, mounts });
});

/** Source: the Go types of checkpointctl's lib/metadata.go, and of the parts of runtime-spec's Spec that it shows. */
const GO = {
  'config.dump': {
    ...{ id: 'string', name: 'string', rootfsImage: 'string', rootfsImageRef: 'string' },
    ...{ rootfsImageName: 'string', runtime: 'string', createdTime: 'time', checkpointedTime: 'time' },
    ...{ restoredTime: 'time', restored: 'boolean' },
  },
  status: {
    ...{ CreatedAt: 'integer', StartedAt: 'integer', FinishedAt: 'integer', ExitCode: 'integer' },
    ...{ Pid: 'integer', Reason: 'string', Message: 'string' },
  },
  'spec.dump': {
    'process.args': 'strings',
    'process.env': 'strings',
    'process.cwd': 'string',
    'mounts.0.destination': 'string',
    'mounts.0.type': 'string',
    'mounts.0.source': 'string',
    'mounts.0.options': 'strings',
    'annotations.io.kubernetes.cri.container-name': 'string',
  },
} as const;

/** What Go's decoder takes for the type; a time is RFC 3339. */
const READS: Record<string, (value: unknown) => boolean> = {
  string: (value) => typeof value === 'string',
  boolean: (value) => typeof value === 'boolean',
  // As text: a float or an exponent is no integer for it.
  integer: (value) => /^-?\d+$/.test(JSON.stringify(value)),
  time: (value) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(String(value)),
  strings: (value) => Array.isArray(value) && value.every((one) => typeof one === 'string'),
};

/** Names of annotations have dots of their own. */
function at(document: unknown, path: string): unknown {
  const names = path.startsWith('annotations.')
    ? ['annotations', path.slice('annotations.'.length)]
    : path.split('.');
  return names.reduce((value, name) => (value as Record<string, unknown>)[name], document);
}

describe.each(Object.entries(GO))('checkpointctl reads %s', (name, fields) => {
  const written = archiveDocuments(sampleFacts(2), { base: undefined, digest: `sha256:${'ab'.repeat(32)}` });
  it.each(Object.entries(fields))('%s, a %s', (path, type) => {
    const document = JSON.parse(JSON.stringify(written[name])) as unknown;
    expect(READS[type]?.(at(document, path)), JSON.stringify(at(document, path))).toBe(true);
  });
});

it('Podman and containerd find the image of the container', () => {
  const base = `registry.example/r@sha256:${'cd'.repeat(32)}`;
  const { 'config.dump': config } = archiveDocuments(sampleFacts(2), { base, digest: 'sha256:ab' });
  expect(config).toMatchObject({
    rootfsImageID: expect.stringMatching(/^[0-9a-f]{64}$/),
    rootfsImageRef: base,
  });
});

describe('an archive is refused', () => {
  it.each([
    ['without config.dump', { config: undefined }, 'it has no config.dump'],
    ['without spec.dump', { spec: undefined }, 'it has no spec.dump'],
    ['with a spec that is no JSON', { spec: Buffer.from('{') }, 'spec.dump is no JSON'],
    ['with a spec without a process', { spec: {} }, '"process" is not as it should be'],
    [
      'with a user that is none',
      { spec: { process: { ...spec.process, user: { uid: -1, gid: 0 } } } },
      '"process.user.uid"',
    ],
    ['with a terminal', { spec: { process: { ...spec.process, terminal: true } } }, 'had a terminal'],
    [
      'with a user namespace',
      { spec: { ...spec, linux: { namespaces: [{ type: 'user' }] } } },
      'user namespace',
    ],
    ['with deleted files that are none', { deleted: [{ a: 1 }] }, 'deleted.files: "0"'],
    ['with facts of another format', { facts: { formatVersion: 9 } }, 'format version is 9'],
  ])('%s', (_, changes, said) => {
    expect(() => readArchiveFacts(documents(changes), { ...host, cpuFlags: [] })).toThrow(said);
  });
});
