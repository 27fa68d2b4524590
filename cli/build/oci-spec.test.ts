import { describe, expect, it } from 'vitest';
import { launchOf, ociSpec, type RunConfig } from './oci-spec.ts';
import { type BuildSpec, parseBuildSpec } from './spec.ts';

function specOf(more = ''): BuildSpec {
  return parseBuildSpec(`image = "base:1"\n${more}\n[ready]\ntcp = { port = 1 }\n`, 'toml');
}

const config: RunConfig = { Entrypoint: ['/server'], Cmd: ['--all'], Env: ['A=1'], WorkingDir: '/srv' };

describe('what is run is what a pod would run', () => {
  it.each([
    ['', ['/server', '--all']],
    ['args = ["--one"]', ['/server', '--one']],
    ['args = []', ['/server', '--all']],
    ['command = ["/other"]', ['/other']],
    ['command = ["/other"]\nargs = ["x"]', ['/other', 'x']],
  ])('%j', (text, args) => expect(launchOf(specOf(text), config).args).toEqual(args));

  it('the image has no command', () => {
    expect(() => launchOf(specOf(), {})).toThrow('it names no command');
  });

  it('environment and directory', () => {
    const { env, cwd } = launchOf(specOf('env = { A = "2", B = "x=y" }'), config);
    expect(env).toEqual([expect.stringMatching(/^PATH=\/usr/), 'A=2', 'HOSTNAME=thaw-build', 'B=x=y']);
    expect(cwd).toBe('/srv');
    expect(launchOf(specOf('working_dir = "/tmp"'), config).cwd).toBe('/tmp');
    expect(launchOf(specOf(), { Cmd: ['/x'], Env: ['PATH=/bin'] })).toMatchObject({ cwd: '/' });
    expect(launchOf(specOf(), { Cmd: ['/x'], Env: ['PATH=/bin'] }).env[0]).toBe('PATH=/bin');
  });
});

function build(more: string, apparmorProfile?: string) {
  return ociSpec({
    spec: specOf(more),
    apparmorProfile,
    config,
    user: { uid: 1, gid: 2, additionalGids: [2] },
    files: {
      hostname: '/f/hostname',
      resolvConf: '/f/resolv.conf',
      shm: '/f/shm',
      hosts: '/f/hosts',
      terminationLog: '/f/log',
      serviceAccount: '/f/sa',
    },
    network: '/proc/1/fd/9',
    cgroupsPath: '/x',
  });
}

const destinations = (more: string) =>
  build(more)
    .mounts.filter(({ type }) => type === 'bind')
    .map(({ destination, options }) => `${destination} ${options.at(-1)}`);

describe('mounts', () => {
  it('are those of a pod, and parents come before what lies below them', () => {
    const text =
      '[[mounts]]\nsource = "/w"\ndestination = "/data/deep/er"\n[[mounts]]\nsource = "/w"\ndestination = "/data"\nread_only = true';
    expect(destinations(text)).toEqual([
      '/data ro',
      '/etc/hostname rw',
      '/etc/resolv.conf rw',
      '/dev/shm rw',
      '/etc/hosts rw',
      '/dev/termination-log rw',
      '/data/deep/er rw',
      '/var/run/secrets/kubernetes.io/serviceaccount ro',
    ]);
  });
  it('leave out what the pods will not have, or what is mounted there already', () => {
    const text =
      'pod = { termination_log = false, service_account = false }\n[[mounts]]\nsource = "/w"\ndestination = "/dev/shm"';
    expect(destinations(text)).toEqual([
      '/etc/hostname rw',
      '/etc/resolv.conf rw',
      '/etc/hosts rw',
      '/dev/shm rw',
    ]);
    expect(build(text).mounts.find(({ destination }) => destination === '/dev/shm')?.source).toBe('/w');
  });
  it('of the pod are read-only where the root is', () => {
    expect(destinations('security = { read_only_root = true }').slice(0, 3)).toEqual([
      '/etc/hostname ro',
      '/etc/resolv.conf ro',
      '/dev/shm rw',
    ]);
  });
});

describe('rights', () => {
  it.each([
    ['', 14, expect.arrayContaining(['CAP_CHOWN'])],
    ['security = { drop = ["ALL"] }', 0, []],
    ['security = { drop = ["ALL"], add = ["SYS_PTRACE"] }', 1, ['CAP_SYS_PTRACE']],
    ['security = { drop = ["CAP_CHOWN"] }', 13, expect.not.arrayContaining(['CAP_CHOWN'])],
  ])('%j', (text, count, capabilities) => {
    const { bounding } =
      (build(text).process as { capabilities?: { bounding: string[] } }).capabilities ?? {};
    expect(bounding).toHaveLength(count);
    expect(bounding).toEqual(capabilities);
  });
  it('privileges cannot be gained where that is forbidden', () => {
    expect(build('').process).toMatchObject({ noNewPrivileges: false });
    expect(build('security = { allow_privilege_escalation = false }').process).toMatchObject({
      noNewPrivileges: true,
    });
  });
});

it('hides what a kubelet hides, unless the file says otherwise', () => {
  const kubelet = build('')['linux'] as { maskedPaths: string[]; readonlyPaths: string[] };
  expect(kubelet.maskedPaths).toContain('/proc/kcore');
  expect(kubelet.readonlyPaths).toContain('/proc/sys');
  expect(build('pod = { masked_paths = ["/proc/interrupts"], read_only_paths = [] }')['linux']).toMatchObject(
    {
      maskedPaths: ['/proc/interrupts'],
      readonlyPaths: [],
    },
  );
});

it('limits memory and processors', () => {
  expect(build('resources = { memory = "1Gi", cpus = 0.5 }')['linux']).toMatchObject({
    resources: { memory: { limit: 1 << 30 }, cpu: { period: 100_000, quota: 50_000 } },
  });
});

it('a profile of AppArmor is that of the pods', () => {
  expect(build('', 'cri-containerd.apparmor.d').process['apparmorProfile']).toBe('cri-containerd.apparmor.d');
  expect(build('').process).not.toHaveProperty('apparmorProfile');
});
