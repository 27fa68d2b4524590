/** `thaw build`: from a base image and a file to a checkpoint image, and nothing left behind. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { stringify } from 'smol-toml';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Containerd as Client, createContainerd } from '../cli/containerd/index.ts';
import { assertNothingLeft, type Leftovers, type RunResult, run, takeStock, until } from './lib/index.ts';
import { KubeletNode } from './lib/kubelet-node.ts';

const WORK = '/var/lib/thaw/work';
const DIR = '/tmp/thaw-build';
/** Counts what it is asked, in memory; a signal makes it say so in a file. */
const SERVER = `
use IO::Socket::INET;
use Errno;
$| = 1;
my $asked = 0;
# io_uring_setup(2): with it CRIU could not save this.
my $params = "\\0" x 120;
my $ring = syscall(425, 1, $params) < 0 ? $!{ENOSYS} ? "none" : "error" : "some";
$SIG{USR1} = sub { open(my $quiet, ">", "/quiet"); close($quiet); };
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die;
print "listening\\n";
while (1) {
  my $client = $listener->accept or next;
  my $line = <$client>;
  while (<$client>) { last if /^\\r?$/ }
  $asked++ if $line =~ /^POST/;
  my $body = "asked $asked model $ENV{MODEL} pid $$ user $< ring $ring";
  print $client "HTTP/1.0 200 OK\\r\\nContent-Length: " . length($body) . "\\r\\n\\r\\n$body";
  close $client;
}`;
const COMMAND = ['/usr/bin/perl', '/server.pl'];
/** The node's perl; CRIU cannot bind what a link leads to. */
const PERL = ['', '/lib', '/lib64'].map((path) => ({ source: `/usr${path}`, destination: path || '/usr' }));

let node: KubeletNode;
let client: Client;
let base: string;
let before: Leftovers;

beforeAll(async () => {
  node = await KubeletNode.start();
  base = await node.pushImage('base/server', [{ path: 'server.pl', content: SERVER }], COMMAND);
  client = await createContainerd({ address: node.containerd.socket, namespace: 'k8s.io' });
});
afterAll(async () => {
  client?.close();
  await node?.stop();
});
beforeEach(() => {
  mkdirSync(DIR, { recursive: true });
  before = takeStock();
});
afterEach(() => rmSync(DIR, { recursive: true }));

/** A build file; its name. */
function file(changes: object = {}): string {
  const spec = {
    image: base,
    env: { MODEL: 'small' },
    mounts: PERL.map((mount) => ({ ...mount, read_only: true })),
    // What the CRI calls of the tests mount into a pod.
    pod: { termination_log: false, service_account: false },
    ready: { http: { port: 8080, path: '/' }, timeout_s: 60 },
    ...changes,
  };
  writeFileSync(`${DIR}/build.json`, JSON.stringify(spec));
  return `${DIR}/build.json`;
}

function build(spec: string, repository: string, ...args: string[]): Promise<RunResult> {
  return node.thaw(['build', spec, '--image', `${node.registry.host}/${repository}:1`, ...args], {
    allowFailure: true,
  });
}

/** No container, snapshot, lease, mount or file of a build. */
async function expectNothing(): Promise<void> {
  expect(await client.containers.list()).toEqual([]);
  expect((await client.leases.list()).filter(({ id }) => id.startsWith('thaw-'))).toEqual([]);
  const snapshots = await client.snapshots('overlayfs').list();
  expect(snapshots.filter(({ kind }) => kind !== 'COMMITTED')).toEqual([]);
  expect((await client.images.list()).filter(({ name }) => name.includes('base/server'))).toEqual([]);
  expect(existsSync(WORK) ? readdirSync(WORK) : []).toEqual([]);
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(WORK);
  await assertNothingLeft(before, 10_000, [/^files: \/run\/mount$/]);
}

const mounts = () => readFileSync('/proc/self/mountinfo', 'utf8');

async function pushed(repository: string): Promise<boolean> {
  const accept = 'application/vnd.oci.image.manifest.v1+json';
  const url = `http://${node.registry.host}/v2/${repository}/manifests/1`;
  return (await fetch(url, { headers: { accept } })).status === 200;
}

describe('a build', () => {
  it('is warm, at rest, verified, and restored in a pod that asks for the same', async () => {
    mkdirSync(`${DIR}/config`);
    writeFileSync(`${DIR}/config/settings`, 'a');
    const volume = `${DIR}/pods/1/volumes/kubernetes.io~configmap/settings`;
    mkdirSync(volume, { recursive: true });
    writeFileSync(`${volume}/settings`, 'a');
    const spec = file({
      mounts: [
        ...PERL.map((mount) => ({ ...mount, read_only: true })),
        { source: `${DIR}/config`, destination: '/config', config: true },
      ],
      warm_up: [{ http: { port: 8080, method: 'POST', path: '/', body: 'x' }, times: 3 }, { exec: ['true'] }],
      quiesce: { signal: 'SIGUSR1', until: { file: '/quiet' } },
    });
    const dry = await build(spec, 'built/server', '--dry-run');
    expect(dry.code, dry.stderr).toBe(0);
    expect(dry.stdout).toContain('Command      /usr/bin/perl /server.pl');
    expect(await pushed('built/server')).toBe(false);
    await expectNothing();

    const done = await build(spec, 'built/server', '--json');
    expect(done.code, done.stderr).toBe(0);
    const report = JSON.parse(done.stdout);
    expect(report).toMatchObject({ verified: true, base, processes: [{ pid: 1, comm: 'perl' }] });
    expect(report.launch).toMatchObject({ args: COMMAND, uid: 0, env: ['MODEL', 'PATH'] });
    expect(report.portability.map(({ kind }: { kind: string }) => kind)).toContain('mount');
    for (const step of [
      'Warming it up: 4 requests',
      'Bringing it to rest',
      'Restoring it once: its probe passed',
    ])
      expect(done.stderr).toContain(step);
    await expectNothing();

    const pod = await node.runPod({
      image: report.image,
      env: { MODEL: 'small' },
      // It was built without one.
      seccomp: 'RuntimeDefault',
      mounts: [...PERL, { source: volume, destination: '/config' }].map(({ source, destination }) => ({
        hostPath: source,
        containerPath: destination,
        readonly: true,
      })),
    });
    try {
      const answer = await until('an answer', () =>
        node.exec(pod, 'wget', '-q', '-O', '-', 'http://127.0.0.1:8080/'),
      );
      expect(
        node
          .shimLog()
          .split('\n')
          .filter((line) => line.includes('starting cold')),
      ).toEqual([]);
      // It came from memory: three requests were answered before it was saved.
      expect(answer).toBe('asked 3 model small pid 1 user 0 ring none');
    } finally {
      await node.removePod(pod);
    }
    await node.forget(report.image);
  });

  it('makes lazy layers of the base, and runs on them', async () => {
    const done = await build(file(), 'built/lazy', '--lazy', '--json');
    expect(done.code, done.stderr).toBe(0);
    const { image } = JSON.parse(done.stdout) as { image: string };
    const { stdout } = await node.thaw(['inspect', image, '--json']);
    const { index, facts } = JSON.parse(stdout) as {
      index: { layerReads: { frames: number }[] };
      facts: { layers: { base: { mediaType: string }[] } };
    };
    // The perl of the node has read it before it was saved: what a restore reads is shown by test/lazy-pods.test.ts.
    expect(index.layerReads).toEqual([]);
    expect(node.snapshotterLog().match(/"layer is lazy"/g)).toHaveLength(3);
    expect(facts.layers.base.map(({ mediaType }) => mediaType.replace(/^.*\./, ''))).toEqual([
      'tar',
      'tar+zstd',
      'tar+zstd',
    ]);
    await node.containerd.collectGarbage();
    expect(mounts()).not.toContain(' erofs ');
    expect(mounts()).not.toContain(WORK);
    expect(existsSync(WORK) ? readdirSync(WORK) : []).toEqual([]);
  });

  it('that waits for a line of the log and a file is not asked for them again', async () => {
    const spec = file({
      ready: { log_line: '^listening$' },
      quiesce: { exec: ['touch', '/rested'], until: { file: '/rested' } },
    });
    const done = await build(spec, 'built/logged');
    expect(done.code, done.stderr).toBe(0);
    expect(done.stderr).toContain('Restoring it once: it runs');
    expect(done.stdout).toContain('Verified     it was restored on this node, and works');
    await expectNothing();
  });
});

it('the Job reads its file and its credentials through descriptors, from another mount namespace', async () => {
  const job = readFileSync('deploy/kubernetes/build-job.yaml', 'utf8');
  const [, block = ''] = /- sh\n.*?- \|\n(.*?)\n {10}\w/s.exec(job) ?? [];
  const pod = `${DIR}/pod`;
  mkdirSync(`${DIR}/registry`);
  writeFileSync(`${DIR}/registry/config.json`, '{"auths":{}}');
  writeFileSync(`${DIR}/build.toml`, stringify(JSON.parse(readFileSync(file(), 'utf8'))));
  mkdirSync(pod);
  const script = block
    .replace('thaw build -', `thaw --address ${node.containerd.socket} build - --dry-run`)
    .replace('/registry', `${pod}/registry`)
    .replace('/build/build.toml', `${pod}/build.toml`);
  expect(script).toContain(`3< ${pod}/registry`);
  // What a pod has mounted is not in the node's mount namespace.
  const mount = `mount -t tmpfs none ${pod}\nmv ${DIR}/registry ${DIR}/build.toml ${pod}\n`;
  const done = await run('unshare', ['-m', 'sh', '-ec', mount + script], {
    env: { TARGET: `${node.registry.host}/built/job:1` },
    allowFailure: true,
    timeoutMs: 60_000,
  });
  expect(done.code, done.stderr).toBe(0);
  expect(done.stdout).toContain('Nothing was started and nothing pushed.');
  expect(readdirSync(pod)).toEqual([]);
  await expectNothing();
});

describe('a build that fails says why, and leaves nothing', () => {
  it.each([
    [
      'is never ready',
      { ready: { tcp: { port: 1 }, timeout_s: 2 } },
      /was not ready within 2 s: .*said: listening/,
    ],
    [
      'ends',
      { command: ['sh', '-c', 'echo no weights; exit 3'] },
      /ended with status 3; the last it said: no weights/,
    ],
    [
      'cannot be warmed up',
      { warm_up: [{ http: { port: 8080, status: 418 } }] },
      /warm_up 1 .*answered with 200: asked 0/,
    ],
    ['does not come to rest', { quiesce: { exec: ['false'] } }, /to rest: false ended with 1/],
    ['has no such user', { user: 'nobody-knows' }, /\/etc\/passwd does not know it/],
    [
      'mounts what is not here',
      { mounts: [{ source: '/nowhere', destination: '/x' }] },
      /\/nowhere at \/x: it is not on this node/,
    ],
    ['has no base', { image: 'localhost:1/none:1' }, /check the network and that the registry is up/],
  ])('%s', async (_, changes, said) => {
    const done = await build(file(changes), 'built/failed');
    expect(done.code, done.stderr).toBe(1);
    expect(done.stderr).toMatch(said);
    expect(await pushed('built/failed')).toBe(false);
    await expectNothing();
  });

  it('has a key that is not known: nothing is even looked at', async () => {
    const done = await build(file({ warmup: [] }), 'built/failed');
    expect(done.code).toBe(2);
    expect(done.stderr).toBe('thaw: Cannot use the build file: unknown key "warmup"\n');
  });

  it('is refused by the registry before anything is started', async () => {
    const server = createServer((_, response) => response.writeHead(403).end());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const host = `127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
    const done = await node.thaw(['build', file(), '--image', `${host}/a:b`], { allowFailure: true });
    server.closeAllConnections();
    server.close();
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('ask for access');
    expect(done.stderr).not.toContain('Starting the container');
    await expectNothing();
  });

  it.each(['SIGINT', 'SIGKILL'] as const)('is ended by %s', async (signal) => {
    const spec = file({ ready: { tcp: { port: 1 } } });
    const args = [
      '--address',
      node.containerd.socket,
      'build',
      spec,
      '--image',
      `${node.registry.host}/built/cut:1`,
    ];
    const command = spawn('thaw', args, { stdio: 'ignore' });
    const ended = once(command, 'exit');
    await until('the container to run', async () => {
      const [container] = await client.containers.list();
      return container && (await client.tasks.get(container.id).catch(() => undefined))?.status === 'RUNNING';
    });
    command.kill(signal);
    await ended;
    await until('the container to be gone', async () => (await client.containers.list()).length === 0);
    await until('the working directory to be gone', () => readdirSync(WORK).length === 0);
    // A killed command's lease expires by itself.
    for (const { id } of await client.leases.list()) await client.leases.remove(id);
    await expectNothing();
  });
});
