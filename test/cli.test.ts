import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
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
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';

const RUNTIME = 'io.containerd.runc.thaw.v2';
const WORK = '/var/lib/thaw/work';
/** Counts in memory, so that a copy that lost its memory would begin anew. */
const COUNTER = 'i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.05; done';

let before: Leftovers;
let registry: Registry;
let containerd: Containerd;
let client: Client;
let base: string;

beforeAll(async () => {
  registry = await Registry.start();
  base = await push(
    registry.host,
    'base/counter',
    '1',
    image([await layer(busybox()), await layer([{ path: 'etc/motd', content: 'hello\n' }])], {
      cmd: ['sh', '-c', COUNTER],
    }),
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
  before = takeStock();
});
afterEach(async () => {
  await containerd.removeContainers();
  // umount(8) keeps a folder of its own.
  await assertNothingLeft(before, 5000, [/^files: \/run\/mount$/]);
});

function thaw(...args: string[]): Promise<RunResult> {
  return run('thaw', ['--address', containerd.socket, '--namespace', 'default', ...args], {
    allowFailure: true,
    timeoutMs: 120_000,
  });
}

/** For commands that must succeed: a failure shows what they said. */
async function succeed(...args: string[]): Promise<RunResult> {
  const done = await thaw(...args);
  expect(done.code, done.stderr).toBe(0);
  return done;
}

async function start(id: string, runtime = RUNTIME): Promise<void> {
  await containerd.ctr(['run', '-d', '--null-io', '--runtime', runtime, base, id]);
  await until('the container to count', async () => (await count(id)) > 2);
}

async function count(id: string): Promise<number> {
  const read = ['task', 'exec', '--exec-id', `read-${Date.now()}`, id, 'cat', '/count'];
  return Number((await containerd.ctr(read)).stdout);
}

/** The container goes on, and nothing temporary is left. */
async function expectUntouched(id: string): Promise<void> {
  expect((await client.tasks.get(id)).status).toBe('RUNNING');
  const then = await count(id);
  await until('the container to go on', async () => (await count(id)) > then);
  await expectClean();
}

async function expectClean(): Promise<void> {
  expect((await client.leases.list()).filter(({ id }) => id.startsWith('thaw-'))).toEqual([]);
  const views = (await client.snapshots('overlayfs').list()).filter(({ kind }) => kind === 'VIEW');
  expect(views).toEqual([]);
  expect(scratch()).toEqual([]);
}

function scratch(dir = WORK): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

/** A registry of a test's own, by what it answers. */
async function fakeRegistry(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const server: Server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const host = `127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  return {
    host,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe('a container that cannot be saved', () => {
  it('is unknown', async () => {
    const done = await thaw('checkpoint', 'nobody', '--image', `${registry.host}/a:b`);
    expect(done).toMatchObject({ code: 1, stdout: '' });
    expect(done.stderr).toContain('thaw: Cannot find a container nobody in the namespace default');
    await expectClean();
  });

  it('lives in another namespace', async () => {
    await start('elsewhere');
    const done = await thaw(
      'checkpoint',
      'elsewhere',
      '--image',
      `${registry.host}/a:b`,
      '--namespace',
      'k8s.io',
    );
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('add --namespace default');
  });

  it('is one of several that its name fits', async () => {
    await start('twin-1');
    await start('twin-2');
    const done = await thaw('checkpoint', 'twin', '--image', `${registry.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('any of 2 containers (twin-1, twin-2)');
  });

  it('runs under another runtime', async () => {
    await start('plain', 'io.containerd.runc.v2');
    const done = await thaw('checkpoint', 'plain', '--image', `${registry.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain(
      'its runtime is io.containerd.runc.v2; start it with runtimeClassName: thaw',
    );
    await expectUntouched('plain');
  });

  it('was never started', async () => {
    await containerd.ctr(['container', 'create', '--runtime', RUNTIME, base, 'created']);
    const done = await thaw('checkpoint', 'created', '--image', `${registry.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('Cannot save created: it does not run');
    await expectClean();
  });

  it('has ended', async () => {
    await start('ended');
    await client.tasks.kill('ended', 9);
    await until('its end', async () => (await client.tasks.get('ended')).status === 'STOPPED');
    const done = await thaw('checkpoint', 'ended', '--image', `${registry.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('it is stopped; only a running container can be saved');
    await expectClean();
  });
});

describe('a container that CRIU cannot dump', () => {
  it('goes on, and the message names what it uses', async () => {
    // CRIU knows no ramfs.
    const script = `mkdir -p /held; mount -t ramfs none /held; ${COUNTER}`;
    const args = ['run', '-d', '--null-io', '--privileged', '--runtime', RUNTIME, base, 'held', 'sh', '-c'];
    await containerd.ctr([...args, script]);
    await until('the container to count', async () => (await count('held')) > 2);
    const done = await thaw('checkpoint', 'held', '--image', `${registry.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toMatch(/Cannot dump held: .*\.\/held .*held goes on running/);
    await expectUntouched('held');
  });
});

describe('a registry that does not take the image', () => {
  it.each([
    [401, 'log in with "docker login'],
    [403, 'ask for access'],
    [404, 'check the name and tag'],
    [500, 'look into the logs of the registry'],
  ])('answers %i: the container is not even paused', async (status, advice) => {
    await start('warm');
    const fake = await fakeRegistry((_request, response) => {
      response.statusCode = status;
      response.end();
    });
    const done = await thaw('checkpoint', 'warm', '--image', `${fake.host}/a:b`);
    await fake.close();
    expect(done.code).toBe(1);
    expect(done.stderr).toContain(advice);
    expect(done.stderr).toContain(String(status));
    expect(done.stderr).not.toContain('Dumping');
    await expectUntouched('warm');
  });

  it('is not there', async () => {
    await start('warm');
    const fake = await fakeRegistry(() => undefined);
    await fake.close();
    const done = await thaw('checkpoint', 'warm', '--image', `${fake.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('check the network and that the registry is up');
    await expectUntouched('warm');
  });

  it('breaks down half-way: the container goes on and everything is removed', async () => {
    await start('warm');
    let manifests = 0;
    const proxy = await proxyTo(registry.host, (request, response) => {
      if (request.method !== 'PUT' || !request.url?.includes('/manifests/')) return false;
      manifests++;
      response.statusCode = 400;
      response.end();
      return true;
    });
    const done = await thaw('checkpoint', 'warm', '--image', `${proxy.host}/half/way:1`);
    await proxy.close();
    expect(done.code).toBe(1);
    expect(manifests, done.stderr).toBe(1);
    expect(done.stderr).toContain('Dumping the processes');
    await expectUntouched('warm');
  });
});

/** Passes on to a registry what `intercept` does not answer itself. */
function proxyTo(host: string, intercept: (request: IncomingMessage, response: ServerResponse) => boolean) {
  return fakeRegistry((request, response) => {
    if (intercept(request, response)) return;
    const headers = { ...request.headers, host };
    const [hostname, port] = host.split(':');
    const onward = httpRequest(
      { hostname, port, path: request.url, method: request.method, headers },
      (answer) => {
        const location = answer.headers.location?.replace(host, request.headers.host ?? host);
        response.writeHead(answer.statusCode ?? 502, {
          ...answer.headers,
          ...(location ? { location } : {}),
        });
        answer.pipe(response);
      },
    );
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
}

describe('a node that is not ready', () => {
  it('has no containerd', async () => {
    const done = await run('thaw', ['--address', '/run/none.sock', 'checkpoint', 'a', '--image', 'b/c:d'], {
      allowFailure: true,
    });
    expect(done).toMatchObject({ code: 1, stdout: '' });
    expect(done.stderr).toContain('Cannot reach containerd at /run/none.sock: start containerd');
  });

  it('has no thaw-snapshotter', async () => {
    const done = await thaw('status', '--socket', '/run/none.sock');
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('Cannot reach thaw-snapshotter at /run/none.sock: start it');
  });

  describe('with little space', () => {
    const small = '/var/lib/thaw/small';
    const mount = (bytes: number) => run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', small]);
    beforeEach(() => void mkdirSync(small, { recursive: true }));
    afterEach(async () => {
      await run('umount', [small], { allowFailure: true });
      rmSync(small, { recursive: true });
    });

    it('refuses before the container is paused', async () => {
      await start('warm');
      await mount(16 << 10);
      const done = await thaw('checkpoint', 'warm', '--image', `${registry.host}/a:b`, '--work-dir', small);
      expect(done.code).toBe(1);
      expect(done.stderr).toContain(`${small} has`);
      expect(done.stderr).not.toContain('Dumping');
      expect(scratch(small)).toEqual([]);
      await expectUntouched('warm');
    });

    it('stops when the space runs out during the dump, and the container goes on', async () => {
      await start('warm');
      // Enough for the memory itself (about 120 KiB), not for what CRIU writes beside it.
      await mount(192 << 10);
      const done = await thaw('checkpoint', 'warm', '--image', `${registry.host}/a:b`, '--work-dir', small);
      expect(done.code).toBe(1);
      expect(done.stderr).toContain(`${small} is full`);
      expect(scratch(small)).toEqual([]);
      await expectUntouched('warm');
    });
  });
});

interface Saved {
  image: string;
  digest: string;
  steps: { label: string; ms: number }[];
}

describe('a warm container', () => {
  it('is saved while it runs, can be looked into and checked, and goes on', async () => {
    await start('warm');
    const reference = `${registry.host}/team/warm:1`;
    const done = await succeed('checkpoint', 'war', '--image', reference, '--json');
    expect(done.stderr).toContain('Dumping the processes');
    const saved = JSON.parse(done.stdout) as Saved;
    expect(saved.image).toBe(reference);
    await expectUntouched('warm');

    const shown = JSON.parse((await succeed('inspect', reference, '--json')).stdout);
    expect(shown.digest).toBe(saved.digest);
    expect(shown.layers.map(({ kind }: { kind: string }) => kind)).toEqual([
      'index',
      'data',
      'base',
      'base',
      'diff',
    ]);
    expect(shown.facts.processes[0]).toMatchObject({ pid: 1, comm: 'sh' });
    expect(shown.facts.launch.args).toEqual(['sh', '-c', COUNTER]);
    const text = await succeed('inspect', reference, '--verify');
    expect(text.stdout).toContain('1 sh (1 thread)');
    const sent = registry
      .requests()
      .filter(({ method, uri }) => method === 'PUT' && uri.includes('team/warm/blobs'));
    // Index, data, diff and config; base layers are mounted from where they were pulled.
    expect(sent.length).toBe(4);
  });

  it('can be looked into where its image was unpacked', async () => {
    await start('warm');
    const reference = `${registry.host}/team/files:1`;
    await succeed('checkpoint', 'warm', '--image', reference);
    const { layers } = JSON.parse((await succeed('inspect', reference, '--json')).stdout);
    const dir = mkdtempSync('/tmp/unpacked-');
    for (const { kind, digest } of layers as { kind: string; digest: string }[]) {
      if (kind !== 'index' && kind !== 'data') continue;
      const blob = await fetch(`http://${registry.host}/v2/team/files/blobs/${digest}`);
      await run('tar', ['-x', '-C', dir], { input: new Uint8Array(await blob.arrayBuffer()) });
    }
    await succeed('inspect', '--file', dir, '--verify');
    const chunks = openSync(`${dir}/.thaw/chunks-000000`, 'r+');
    writeSync(chunks, Buffer.alloc(16, 0xee), 0, 16, 4096);
    closeSync(chunks);
    await succeed('inspect', '--file', dir);
    const damaged = await thaw('inspect', '--file', dir, '--verify');
    expect(damaged).toMatchObject({ code: 1, stdout: '' });
    expect(damaged.stderr).toContain('its bytes do not have the digest they should have (file "');
    rmSync(dir, { recursive: true });
  });

  it('ends with --stop, once it is saved', async () => {
    await start('warm');
    await succeed('checkpoint', 'warm', '--image', `${registry.host}/team/stop:1`, '--stop');
    expect(await client.tasks.get('warm')).toMatchObject({ status: 'STOPPED', exitStatus: 137 });
    await expectClean();
  });

  it.each([
    ['interrupted', 'SIGINT', 130],
    ['killed', 'SIGKILL', null],
  ] as const)('goes on when the command is %s', async (_, signal, status) => {
    await start('warm');
    let hang: (() => void) | undefined;
    const hanging = new Promise<void>((resolve) => {
      hang = resolve;
    });
    const proxy = await proxyTo(registry.host, (request) => {
      if (request.method !== 'PUT') return false;
      hang?.();
      return true;
    });
    const child = spawn('thaw', [
      ...['--address', containerd.socket, '--namespace', 'default'],
      // The base layers are there already. With --stop the container stands still until all is pushed.
      ...['checkpoint', 'warm', '--image', `${proxy.host}/base/counter:int`, '--stop'],
    ]);
    let said = '';
    child.stderr.on('data', (text: Buffer) => {
      said += text;
    });
    const ended = new Promise<number | null>((resolve) => void child.once('exit', resolve));
    await Promise.race([
      hanging,
      ended.then((code) => Promise.reject(new Error(`It ended with ${code} before: ${said}`))),
    ]);
    expect((await client.tasks.get('warm')).status).toBe('PAUSED');
    child.kill(signal);
    expect(await ended).toBe(status);
    await proxy.close();
    await until('the container to go on', async () => (await client.tasks.get('warm')).status === 'RUNNING');
    await until('the dump to be removed', () => scratch().length === 0);
    // A killed command cannot give its lease back; that expires, and what it holds with it.
    for (const { id } of await client.leases.list())
      if (status === null) await client.leases.remove(id, { sync: true });
    await expectUntouched('warm');
  });
});

describe('thaw fetch', () => {
  it('adds an image that containerd does not know, completes one that lacks blobs, and export works', async () => {
    const content = await layer([{ path: 'big', content: Buffer.alloc(3_000_000, 7) }]);
    const reference = await push(registry.host, 'team/fetch', '1', image([await layer(busybox()), content]));
    const first = await succeed('fetch', reference, '--json');
    expect(JSON.parse(first.stdout)).toMatchObject({ image: reference });
    await client.content.remove(content.digest);
    expect(
      (await containerd.ctr(['images', 'export', '/dev/null', reference], { allowFailure: true })).code,
    ).not.toBe(0);
    const again = await succeed('fetch', reference, '--json');
    expect(JSON.parse(again.stdout)).toMatchObject({ fetchedBytes: content.bytes.length });
    await containerd.ctr(['images', 'export', '/dev/null', reference]);
    // A collection must not take what was fetched.
    await client.leases.remove((await client.leases.create({ lifetimeMs: 60_000, name: 'gc' })).id, {
      sync: true,
    });
    expect(await client.content.find(content.digest)).toBeDefined();
    await client.images.remove(reference, { sync: true });
    await expectClean();
  });

  it('says what is wrong with an image that is not there', async () => {
    const done = await thaw('fetch', `${registry.host}/team/none:1`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('answered 404 for team/none');
    await expectClean();
  });
});

describe('on a node with thaw-snapshotter', () => {
  /** Makes /gen1 only when it is not told otherwise, and counts in memory. */
  const server =
    '[ -n "$1" ] || echo one > /gen1; n=0; while :; do n=$((n+1)); echo $n > /new; mv /new /state; sleep 0.05; done';
  const command = ['/bin/sh', '/server.sh'];
  let node: KubeletNode;
  let first: string;
  const pods: Pod[] = [];
  const images: string[] = [];

  beforeAll(async () => {
    node = await KubeletNode.start();
    const cold = await node.pushImage('test/server', [{ path: 'server.sh', content: server }], command);
    const pod = await node.runPod({ image: cold, command });
    await until('the server to count', async () => (await state(pod)) > 20);
    first = await node.checkpoint(pod, 'test/server', 'first');
    await node.removePod(pod);
    await node.forget(cold);
  });
  afterAll(() => node.stop());
  afterEach(async () => {
    for (const pod of pods.splice(0)) await node.removePod(pod);
    for (const image of images.splice(0)) await node.forget(image);
  });

  async function runPod(request: Parameters<KubeletNode['runPod']>[0]): Promise<Pod> {
    images.push(request.image);
    const pod = await node.runPod({ command, ...request });
    pods.push(pod);
    return pod;
  }
  const state = async (pod: Pod) => Number(await node.exec(pod, 'cat', '/state').catch(() => '0'));
  const files = async (pod: Pod) => (await node.exec(pod, 'ls', '/')).split('\n');
  const kindsOf = async (reference: string) => {
    const { layers } = JSON.parse((await node.thaw(['inspect', reference, '--json'])).stdout);
    return layers.map(({ kind }: { kind: string }) => kind);
  };

  it('a restored container is saved again without the layers of its first checkpoint', async () => {
    const pod = await runPod({ image: first });
    expect(await state(pod)).toBeGreaterThan(20);
    await node.exec(pod, 'sh', '-c', 'rm /gen1; echo two > /gen2');
    const second = await node.checkpoint(pod, 'test/server', 'second');
    expect(await kindsOf(second)).toEqual(['index', 'data', 'base', 'base', 'diff']);
    const again = await runPod({ image: second });
    expect(await state(again)).toBeGreaterThan(20);
    expect(await files(again)).toContain('gen2');
    expect(await files(again)).not.toContain('gen1');
  });

  it('a container that started cold is saved without the diff that it never saw', async () => {
    const other = [...command, 'other'];
    const pod = await runPod({ image: first, command: other });
    await until('the server to count', async () => (await state(pod)) > 2);
    expect(await files(pod)).not.toContain('gen1');
    const second = await node.checkpoint(pod, 'test/server', 'cold');
    expect(await kindsOf(second)).toEqual(['index', 'data', 'base', 'base', 'diff']);
    const again = await runPod({ image: second, command: other });
    expect(await state(again)).toBeGreaterThan(2);
    expect(await files(again)).not.toContain('gen1');
  });

  it('a lazily pulled image is listed, completed, exported and evicted', async () => {
    const pod = await runPod({ image: first });
    await state(pod);
    // It runs before all of its memory is here.
    const checkpoints = await until('all of the checkpoint to be here', async () => {
      const status = JSON.parse((await node.thaw(['status', '--json'])).stdout);
      return status.checkpoints[0]?.state === 'complete' && status.checkpoints;
    });
    expect(checkpoints).toHaveLength(1);
    expect(checkpoints[0]).toMatchObject({ image: first, state: 'complete' });
    expect(checkpoints[0].presentBytes).toBe(checkpoints[0].storedBytes);
    expect((await node.thaw(['status'])).stdout).toContain('100 %');

    const out = '/tmp/export.tar';
    const exportImage = () =>
      node.containerd.ctr(['-n', 'k8s.io', 'images', 'export', out, first], { allowFailure: true });
    expect((await exportImage()).code).not.toBe(0);
    const fetched = JSON.parse((await node.thaw(['fetch', first, '--json'])).stdout);
    expect(fetched.image).toBe(first);
    expect(fetched.fetchedBytes).toBeGreaterThan(0);
    expect((await exportImage()).code).toBe(0);
    rmSync(out);
    expect(JSON.parse((await node.thaw(['fetch', first, '--json'])).stdout).fetchedBytes).toBe(0);

    await node.removePod(pods.pop() as Pod);
    const evict = () => node.thaw(['evict', checkpoints[0].id.slice(0, 20)], { allowFailure: true });
    const done = await until('the last container to be gone', async () => {
      const tried = await evict();
      return tried.code === 0 && tried;
    });
    expect(done.stdout).toMatch(/^Evicted sha256:[0-9a-f]{12}….*free again$/m);
    expect((await evict()).stderr).toContain('Cannot find a checkpoint');
  });
});

it('inspect tells an ordinary image from a checkpoint', async () => {
  const done = await thaw('inspect', base);
  expect(done.code).toBe(1);
  expect(done.stderr).toContain('is an ordinary image, not a checkpoint');
});
