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
  const written = archiveDocuments(facts, { reference: 'r:1', digest: 'sha256:ab' });
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
