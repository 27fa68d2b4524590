/** `thaw checkpoint` restores what it saved before it publishes it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { type CheckpointIndex, decodeIndex } from '../checkpoint/index-format.ts';
import { decodeChunk } from '../checkpoint/pack/index.ts';
import { type Containerd as Client, createContainerd } from '../cli/containerd/index.ts';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  image,
  type Leftovers,
  layer,
  push,
  Registry,
  type RunResult,
  run,
  takeStock,
  until,
} from './lib/index.ts';
import { KubeletNode } from './lib/kubelet-node.ts';

const RUNTIME = 'io.containerd.runc.thaw.v2';
const WORK = '/var/lib/thaw/work';
const VOLUME = '/tmp/trial-volume';
const MIB = 1 << 20;
/** In a trial this is true: its cgroup is its own. */
const IN_TRIAL = 'grep -q thaw-trial /proc/self/cgroup';

/** 64 MiB of which an answer reads one; the sum makes perl read each byte. */
const SERVER = `
use IO::Socket::INET;
my $memory = "x" x (64 << 20);
# Page by page: perl keeps constants and results of its own, and those are not read again.
my $page = "T" x 4096;
substr($memory, (40 << 20) + $_ * 4096, 4096) = $page for 0 .. 255;
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die;
open(my $ready, ">", "/ready"); close($ready);
while (my $client = $listener->accept) {
  while (<$client>) { last if /^\\r?$/ }
  my $sum = unpack("%32C*", substr($memory, 40 << 20, 1 << 20));
  print $client "HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok";
  close $client;
}`;

let before: Leftovers;
let registry: Registry;
let containerd: Containerd;
let client: Client;
let base: string;

beforeAll(async () => {
  registry = await Registry.start();
  const entries = [{ path: 'server.pl', content: SERVER }];
  base = await push(
    registry.host,
    'base/server',
    '1',
    image([await layer(busybox()), await layer(entries)], { cmd: ['sh'] }),
  );
  containerd = await Containerd.start({ env: { PATH: `/opt/thaw/current/bin:${process.env['PATH']}` } });
  await containerd.ctr(['images', 'pull', '--plain-http', base]);
  client = await createContainerd({ address: containerd.socket, namespace: 'default' });
});
afterAll(async () => {
  client.close();
  await containerd.stop();
  await registry.stop();
});
beforeEach(() => {
  mkdirSync(VOLUME, { recursive: true });
  before = takeStock();
});
afterEach(async () => {
  await containerd.removeContainers();
  await assertNothingLeft(before, 10_000, [/^files: \/run\/mount$/]);
  rmSync(VOLUME, { recursive: true });
});

function thaw(...args: string[]): Promise<RunResult> {
  return run('thaw', ['--address', containerd.socket, '--namespace', 'default', ...args], {
    allowFailure: true,
    timeoutMs: 120_000,
  });
}

async function start(id: string, command: readonly string[], options: readonly string[] = []): Promise<void> {
  await containerd.ctr(['run', '-d', '--null-io', '--runtime', RUNTIME, ...options, base, id, ...command]);
}

const bind = (source: string, destination: string, mode: 'ro' | 'rw') => [
  '--mount',
  `type=bind,src=${source},dst=${destination},options=rbind:${mode}`,
];

/** The source runs, and of the trial nothing is left. */
async function expectOnly(id: string): Promise<void> {
  expect((await client.tasks.get(id)).status).toBe('RUNNING');
  expect((await client.containers.list()).map((container) => container.id)).toEqual([id]);
  const snapshots = await client.snapshots('overlayfs').list();
  expect(snapshots.filter(({ kind }) => kind !== 'COMMITTED').map(({ name }) => name)).toEqual([id]);
  expect(await client.leases.list()).toEqual([]);
  expect(readdirSync(WORK)).toEqual([]);
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(WORK);
}

async function manifestOf(repository: string): Promise<Response> {
  return fetch(`http://${registry.host}/v2/${repository}/manifests/1`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
}

interface Manifest {
  layers: { digest: string; annotations?: Record<string, string> }[];
  annotations: Record<string, string>;
}

async function readImage(repository: string) {
  const manifest = (await (await manifestOf(repository)).json()) as Manifest;
  const blob = async (digest: string) =>
    Buffer.from(
      await (await fetch(`http://${registry.host}/v2/${repository}/blobs/${digest}`)).arrayBuffer(),
    );
  const annotation = manifest.layers[0]?.annotations?.['containerd.io/snapshot/thaw.index'] ?? '';
  const [, layer = '', offset, length] = annotation.split(',');
  const index = decodeIndex((await blob(layer)).subarray(Number(offset), Number(offset) + Number(length)));
  return { manifest, index, data: await Promise.all(index.dataLayers.map(({ digest }) => blob(digest))) };
}

/** Bytes of each chunk of the memory, by ordinal. */
function memoryOf(index: CheckpointIndex, data: readonly Buffer[]): Map<number, Buffer> {
  const chunks = new Map<number, Buffer>();
  for (const { name, chunks: table, firstOrdinal } of index.files) {
    if (!name.startsWith('pages-')) continue;
    for (let i = 0; i < table.count; i++) {
      const chunk = table.chunk(i);
      const at = Number(chunk.layerOffset);
      const stored = data[chunk.layer]?.subarray(at, at + chunk.storedLength) ?? Buffer.alloc(0);
      chunks.set(firstOrdinal + i, Buffer.from(decodeChunk(stored, chunk)));
    }
  }
  return chunks;
}

it('publishes with the order in which the answer to the probe touched memory', async () => {
  await start(
    'server',
    ['/usr/bin/perl', '/server.pl'],
    // The node's perl; CRIU cannot bind what a link leads to.
    [
      ...['', '/lib', '/lib64'].flatMap((path) => bind(`/usr${path}`, path || '/usr', 'ro')),
      ...bind(VOLUME, '/data', 'rw'),
    ],
  );
  const { pid } = await client.tasks.get('server');
  await until('the server to be ready', () => existsSync(`/proc/${pid}/root/ready`));
  const reference = `${registry.host}/trial/server:1`;
  const args = ['checkpoint', 'server', '--image', reference, '--json'];
  const done = await thaw(...args, '--probe', 'http://localhost:8080/');
  expect(done.code, done.stderr).toBe(0);
  expect(JSON.parse(done.stdout)).toMatchObject({ verified: true });
  await expectOnly('server');

  const { manifest, index, data } = await readImage('trial/server');
  expect(manifest.annotations['thaw.dev/verified']).toBe('true');
  const memory = memoryOf(index, data);
  const touched = new Set(index.accessOrder);
  const chunksWhere = (holds: (bytes: Buffer) => boolean) =>
    [...memory].filter(([, bytes]) => holds(bytes)).map(([ordinal]) => ordinal);
  const read = chunksWhere((bytes) => bytes.includes('T'.repeat(8192)));
  expect(read.length * 512 * 1024).toBeGreaterThanOrEqual(MIB);
  expect(read.filter((ordinal) => !touched.has(ordinal))).toEqual([]);
  const unread = chunksWhere((bytes) => bytes.equals(Buffer.alloc(bytes.length, 'x')));
  expect(unread.length).toBeGreaterThan(100);
  expect(unread.filter((ordinal) => touched.has(ordinal))).toEqual([]);
  // What CRIU reads comes before all memory that a process touches.
  const files = index.accessOrder.map((ordinal) => memory.has(ordinal));
  expect(files.indexOf(true)).toBe(index.chunkCount - memory.size);
});

it('restores a process that has ended, and for which its parent has not waited', async () => {
  await start('parent', ['sh', '-c', 'sleep 0 & exec tail -f /dev/null']);
  const { pid } = await client.tasks.get('parent');
  const child = await until('the child to end', () => {
    const [first = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
    const status = first && readFileSync(`/proc/${first}/status`, 'utf8');
    return /^State:\s*Z/m.test(status) && /^NSpid:.*\t(\d+)$/m.exec(status)?.[1];
  });
  const reference = `${registry.host}/trial/parent:1`;
  const probe = `exec:busybox grep -q (sleep).Z /proc/${child}/stat`;
  const done = await thaw('checkpoint', 'parent', '--image', reference, '--json', '--probe', probe);
  expect(done.code, done.stderr).toBe(0);
  expect(JSON.parse(done.stdout)).toMatchObject({ verified: true });
  await expectOnly('parent');
});

it('publishes nothing that ends when it is restored, and says why', async () => {
  await start('fragile', ['sh', '-c', `while :; do ${IN_TRIAL} && exit 7; sleep 0.05; done`]);
  await until('the loop to run', async () => (await client.tasks.get('fragile')).status === 'RUNNING');
  const done = await thaw('checkpoint', 'fragile', '--image', `${registry.host}/trial/fragile:1`);
  expect(done.code).toBe(1);
  expect(done.stderr).toMatch(/Nothing was pushed.*its process ended with status 7.*fragile goes on running/);
  expect((await manifestOf('trial/fragile')).status).toBe(404);
  await expectOnly('fragile');
});

it('keeps what a trial writes away from the volumes of its source', async () => {
  const script = `while :; do ${IN_TRIAL} && echo x > /data/trial; echo y > /data/source; sleep 0.05; done`;
  await start('writer', ['sh', '-c', `exec 8>>/data/log; ${script}`], bind(VOLUME, '/data', 'rw'));
  await until('the volume to be written', () => existsSync(`${VOLUME}/source`));
  const done = await thaw('checkpoint', 'writer', '--image', `${registry.host}/trial/writer:1`);
  expect(done.code, done.stderr).toBe(0);
  expect((await readImage('trial/writer')).manifest.annotations['thaw.dev/verified']).toBe('true');
  expect(readdirSync(VOLUME).sort()).toEqual(['log', 'source']);
  await expectOnly('writer');
});

it('says of an image that could not be tried, or was not to be, that it is unverified', async () => {
  await start('shared', ['sh', '-c', 'while :; do sleep 0.2; done'], ['--net-host']);
  const reference = `${registry.host}/trial/shared:1`;
  for (const [option, warning] of [
    [[], /not verified: it uses the network namespace of the host/],
    [['--no-verify'], /^(?!.*not verified)/s],
  ] as const) {
    const done = await thaw('checkpoint', 'shared', '--image', reference, ...option);
    expect(done.code, done.stderr).toBe(0);
    expect(done.stderr).toMatch(warning);
    const { manifest, index } = await readImage('trial/shared');
    expect(manifest.annotations['thaw.dev/verified']).toBe('false');
    expect(index.accessOrder).toEqual([]);
    await expectOnly('shared');
  }
});

it.each([
  ['interrupted', 'SIGINT'],
  ['killed', 'SIGKILL'],
] as const)('leaves nothing of a trial when the command is %s', async (_, signal) => {
  await start('source', ['sh', '-c', 'while :; do sleep 0.2; done'], bind(VOLUME, '/data', 'rw'));
  const command = spawn(
    'thaw',
    [
      ...['--address', containerd.socket, '--namespace', 'default', 'checkpoint', 'source'],
      ...['--image', `${registry.host}/trial/${signal.toLowerCase()}:1`, '--probe', 'tcp://localhost:1'],
    ],
    { stdio: 'ignore' },
  );
  const ended = once(command, 'exit');
  await until(
    'the trial to run',
    async () => {
      const all = await client.containers.list();
      const trial = all.find(({ id }) => id.startsWith('thaw-trial-'));
      if (!trial) return false;
      return (await client.tasks.get(trial.id).catch(() => undefined))?.status === 'RUNNING';
    },
    60_000,
  );
  command.kill(signal);
  await ended;
  await until('the trial to be gone', async () => (await client.containers.list()).length === 1, 60_000);
  await until('the working directory to be gone', () => readdirSync(WORK).length === 0, 60_000);
  // A killed command's lease expires by itself.
  for (const { id } of await client.leases.list()) await client.leases.remove(id);
  for (const { name, kind } of await client.snapshots('overlayfs').list())
    if (kind === 'VIEW') await client.snapshots('overlayfs').remove(name);
  await expectOnly('source');
});

it('a container of a pod is tried outside of the pod, and the image is restored in its order', async () => {
  const node = await KubeletNode.start();
  try {
    const script =
      'token=none; while :; do [ -f /ask ] && { token=$(cat /ask); rm /ask; }; echo $token > /new; mv /new /token; sleep 0.1; done';
    const command = ['sh', '-c', script];
    const cold = await node.pushImage('trial/pod', [{ path: 'motd', content: 'hello' }], command);
    const pod = await node.runPod({ image: cold, command });
    const tokenOf = (of: typeof pod) => node.exec(of, 'cat', '/token').catch(() => '');
    await node.exec(pod, 'sh', '-c', 'echo secret > /a; mv /a /ask');
    await until('the token', async () => (await tokenOf(pod)) === 'secret\n');
    const warm = await node.checkpoint(pod, 'trial/pod');
    const { facts } = JSON.parse((await node.thaw(['inspect', warm, '--json'])).stdout);
    expect(facts.verified).toBe(true);
    expect(await tokenOf(pod)).toBe('secret\n');
    await node.removePod(pod);
    await node.forget(cold);
    const restored = await node.runPod({ image: warm, command });
    expect(await until('the token', () => tokenOf(restored))).toBe('secret\n');
    await node.removePod(restored);
  } finally {
    await node.stop();
  }
});
