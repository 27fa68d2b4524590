/**
 * What cannot be restored starts cold, on the base image alone, says why, and leaves nothing behind; what cannot be
 * saved goes on running.
 */
import { readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { containerdVersion } from './lib/containerd.ts';
import { factsLayer, forge } from './lib/forge.ts';
import {
  assertNothingLeft,
  busybox,
  type Leftovers,
  layer,
  privateDir,
  run as runProgram,
  sleep,
  takeStock,
  until,
} from './lib/index.ts';
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';

/** Keeps a file of the rootfs diff open, so that a restore without it must fail. */
const server = `
mkdir -p /data; echo kept > /data/file; exec 7< /data/file
if [ -e /run/server.pid ]; then echo "already running"; exit 3; fi
echo $$ > /run/server.pid
n=0
while :; do n=$((n+1)); echo "$1 $n" > /tmp/state.new; mv /tmp/state.new /tmp/state; sleep 0.1; done`;
const command = ['/bin/sh', '/server.sh', 'v1'];
const repository = 'test/faults';

let node: KubeletNode;
let stock: Leftovers;
let cold: string;
const pods: Pod[] = [];

async function run(image: string, request: Partial<Parameters<KubeletNode['runPod']>[0]> = {}): Promise<Pod> {
  const pod = await node.runPod({ image, command, annotations: HOOKS_ACCEPTED, ...request });
  pods.push(pod);
  return pod;
}

async function countOf(pod: Pod): Promise<number> {
  const text = await until('the server to count', () => node.exec(pod, 'cat', '/tmp/state').catch(() => ''));
  return Number(text.trim().split(' ')[1]);
}

async function expectCold(image: string, reason: RegExp): Promise<Pod> {
  const pod = await run(image);
  expect(await countOf(pod)).toBeLessThan(50);
  expect(await node.startOf(pod)).toMatch(reason);
  expect(await node.exec(pod, 'ls', '-a', '/')).not.toMatch(/\.thaw/);
  return pod;
}

/** Where docker-registry keeps a blob. */
function blobFile(digest: string): string {
  const hex = digest.slice('sha256:'.length);
  return join(node.registry.dir, 'data/docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
}

/** Without what was changed in the root file system: CRIU does not find the file that the process had open. */
function withoutDiff(repository: string): Promise<string> {
  return forge(node.registry.host, repository, ['warm', 'no-diff'], async (parts) => {
    const empty = await layer([{ path: 'nothing', content: '' }]);
    parts.diff = { layer: empty, diffId: empty.digest };
    parts.facts.layers.diff = factsLayer(empty);
  });
}

/** All pods here have one that no restore runs. */
const HOOKS_ACCEPTED = { 'thaw.dev/restore-except': 'hooks' };
const HOOKS = ['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop'];
let hooksDir: string;

/** Settings of containerd by which every container of the runtime class has all hooks; each writes a line. */
async function withHooks() {
  hooksDir = privateDir('hooks');
  const spec = JSON.parse((await runProgram('ctr', ['oci', 'spec'])).stdout) as { hooks?: object };
  const hook = (name: string) => [
    { path: '/bin/sh', args: ['sh', '-c', `echo "${name} $(cat)" >>${hooksDir}/log`] },
  ];
  spec.hooks = Object.fromEntries(HOOKS.map((name) => [name, hook(name)]));
  const file = join(hooksDir, 'spec.json');
  writeFileSync(file, JSON.stringify(spec));
  const cri = (await containerdVersion()) === '2' ? 'cri.v1.runtime' : 'grpc.v1.cri';
  return {
    plugins: {
      [`io.containerd.${cri}`]: { containerd: { runtimes: { thaw: { base_runtime_spec: file } } } },
    },
  };
}

/** Names of the hooks that were run for it, in order. */
function hooksOf({ containerId }: Pod): string[] {
  const lines = readFileSync(join(hooksDir, 'log'), 'utf8').split('\n');
  return lines
    .filter((line) => line.includes(`"id":"${containerId}"`))
    .map((line) => line.split(' ')[0] ?? '');
}

const COLD_HOOKS = ['prestart', 'createRuntime', 'createContainer', 'poststart'];
/** What runc runs of them for a process that has been started before, and the shim after it. */
const RESTORE_HOOKS = ['prestart', 'createRuntime', 'poststart'];

beforeAll(async () => {
  node = await KubeletNode.start({ extra: await withHooks() });
  cold = await node.pushImage(repository, [{ path: 'server.sh', content: server }], command);
  const pod = await run(cold);
  await until('the server to have counted far', async () => (await countOf(pod)) > 60);
  await node.checkpoint(pod, repository);
  await removePods();
});
afterAll(async () => {
  await node.stop();
  rmSync(hooksDir, { recursive: true });
});
beforeEach(() => {
  stock = takeStock();
});
afterEach(async () => {
  await removePods();
  await assertNothingLeft(stock);
});

async function removePods(): Promise<void> {
  for (const pod of pods.splice(0)) await node.removePod(pod);
}

/** A call that the killed shim never answered fails; a kubelet asks again. */
async function removeAfterCrash(pod: Pod): Promise<void> {
  await node.removePod(pod).catch((error: unknown) => {
    if (!String(error).includes('ttrpc: closed')) throw error;
    return node.removePod(pod);
  });
}

describe('a checkpoint that cannot be restored', () => {
  it('control: unchanged, it is restored', async () => {
    const image = await forge(node.registry.host, repository, ['warm', 'same'], () => {});
    const pod = await run(image);
    expect(await countOf(pod)).toBeGreaterThan(50);
    expect(await node.startOf(pod)).toContain('"restored"');
    expect(hooksOf(pod)).toEqual(RESTORE_HOOKS);
    await removePods();
    expect(hooksOf(pod)).toEqual([...RESTORE_HOOKS, 'poststop']);
  });

  it('starts cold where the pod has a hook that no restore runs, unless it accepts that', async () => {
    const pod = await run(`${node.registry.host}/${repository}:warm`, { annotations: {} });
    expect(await countOf(pod)).toBeLessThan(50);
    expect(await node.why(pod.name)).toEqual({
      outcome: 'StartedCold',
      reasons: ['the container has the createContainer hook /bin/sh, which no restore runs'],
    });
    expect(hooksOf(pod)).toEqual(COLD_HOOKS);
  });

  it('starts cold where CRIU fails, as if no restore had been tried', async () => {
    const image = await withoutDiff(repository);
    const failed = await expectCold(image, /restore failed, starting cold/);
    expect(await node.why(failed.name)).toEqual({
      outcome: 'RestoreFailed',
      reasons: [expect.stringMatching(/CRIU: /)],
    });
    // What had been run for the attempt is undone before it is run for the start.
    expect(hooksOf(failed)).toEqual(['prestart', 'createRuntime', 'poststop', ...COLD_HOOKS]);
    // Another pod of the same kind need not find that out again, until somebody asks for it.
    const again = await expectCold(
      image,
      /failed on this node at .*nothing has changed since.*starting cold/,
    );
    expect((await node.why(again.name)).outcome).toBe('StartedCold');
    expect(hooksOf(again)).toEqual(COLD_HOOKS);
    const [, id = ''] =
      /thaw retry (sha256:[0-9a-f]+)/.exec(JSON.stringify(await node.why(again.name))) ?? [];
    expect((await node.thaw(['retry', id])).stdout).toMatch(/^Will be tried again: sha256:/);
    await expectCold(image, /restore failed, starting cold/);
    // Its pid file is in the upper directory of the attempt or in the diff, and seen from neither.
    const plain = await run(image, { annotations: { 'thaw.dev/restore': 'off' } });
    await countOf(plain);
    const looks = [
      ['cat', '/proc/1/cmdline'],
      ['ls', '-a', '/', '/etc', '/run', '/data', '/dev'],
      [
        'sh',
        '-c',
        "sed 's/[0-9]*:[0-9]*//; s/^[0-9]* [0-9]* //' /proc/self/mountinfo | cut -d' ' -f3,4,5 | sort",
      ],
      ['sh', '-c', 'cat /proc/sys/kernel/sem /proc/sys/kernel/shmmax /proc/sys/kernel/msgmni'],
      ['sh', '-c', 'ls -l /proc/1/fd | sed "s/.*-> //; s/\\[.*//" | sort'],
      ['cat', '/proc/net/dev', '/proc/net/unix'],
    ];
    for (const look of looks) {
      const text = async (pod: Pod) =>
        (await node.exec(pod, ...look)).replaceAll(/[0-9a-f]{32,}|pod-?[0-9a-f-]+|\s+\d+(?=\s)/g, '#');
      expect(await text(failed)).toBe(await text(plain));
    }
    expect(await node.exec(failed, 'hostname')).toBe(`${failed.name}\n`);
  });

  it('runs the image as it is, without its checkpoint, on another base than the checkpoint’s', async () => {
    const image = await forge(node.registry.host, repository, ['warm', 'other-base'], async (parts) => {
      const other = await layer([...busybox(), { path: 'other', content: 'x' }]);
      parts.base[0] = other;
      parts.baseDiffIds[0] = other.digest;
    });
    // Which layer is the diff cannot be told here, so its files are seen: the server's pid file too.
    const pod = await run(image, { command: ['/bin/sh', '-c', 'rm -f /run/server.pid; sh /server.sh v1'] });
    expect(await countOf(pod)).toBeLessThan(50);
    expect(await node.startOf(pod)).toMatch(
      /the base image differs from the checkpoint's .* in layer 1 of 2/,
    );
    expect(await node.exec(pod, 'ls', '-a', '/')).not.toMatch(/\.thaw/);
  });

  it('starts cold where the pages file is too short, which CRIU would read for ever', async () => {
    const image = await forge(node.registry.host, repository, ['warm', 'short-pages'], ({ sizes }) => {
      sizes.set('pages-1.img', 4096n);
    });
    await expectCold(image, /pages-1.img.*it has 4096 bytes, the page maps need/);
  });

  it('starts cold with an unknown format version', async () => {
    const image = await forge(node.registry.host, repository, ['warm', 'future'], (parts) => {
      parts.facts.formatVersion = 99;
    });
    // Which layer is the diff is not known here: the server's old pid file is seen.
    const pod = await run(image, { command: ['/bin/sh', '-c', 'rm -f /run/server.pid; sh /server.sh v1'] });
    expect(await countOf(pod)).toBeLessThan(50);
    expect(await node.startOf(pod)).toMatch(/format version is 99/);
    expect(await node.exec(pod, 'ls', '-a', '/')).not.toMatch(/\.thaw/);
  });

  it('starts cold when a chunk is corrupt in the registry, and never serves it', async () => {
    let data = '';
    const image = await forge(node.registry.host, repository, ['warm', 'corrupt'], (parts) => {
      data = parts.data[0]?.digest ?? '';
      // Another index layer, so that nothing of it is in the cache.
      Object.assign(parts.facts, { annotations: { 'org.criu.checkpoint.engine.name': 'corrupt' } });
    });
    const file = blobFile(data);
    const good = readFileSync(file);
    try {
      const bad = Buffer.from(good);
      const middle = Math.floor(bad.length / 2);
      bad[middle] = (bad[middle] ?? 0) ^ 0xff;
      writeFileSync(file, bad);
      await expectCold(image, /SHA-256|digest|corrupt/i);
    } finally {
      writeFileSync(file, good);
    }
  });

  it('starts cold when the data layer is cut off in the registry', async () => {
    let data = '';
    const image = await forge(node.registry.host, repository, ['warm', 'short'], (parts) => {
      data = parts.data[0]?.digest ?? '';
      Object.assign(parts.facts, { annotations: { 'org.criu.checkpoint.engine.name': 'short' } });
    });
    const file = blobFile(data);
    const good = readFileSync(file);
    try {
      truncateSync(file, 2048);
      await expectCold(image, /starting cold/);
    } finally {
      writeFileSync(file, good);
    }
  });

  it('starts cold when the daemon does not answer the shim', async () => {
    const socket = '/run/thaw/thaw.sock';
    renameSync(socket, `${socket}.away`);
    try {
      await expectCold(`${node.registry.host}/${repository}:warm`, /starting cold/);
    } finally {
      renameSync(`${socket}.away`, socket);
    }
  });
});

it('a server that runs only where its pid file and its socket are not is started cold after a failed restore', async () => {
  const alone = ['/pod-server', '/run', '/data'];
  const server = { path: 'pod-server', mode: 0o755, content: readFileSync('/thaw/build/test/pod-server') };
  const image = await node.pushImage('test/alone', [server, { path: 'run/kept', content: '' }], alone);
  const dirs: string[] = [];
  /** In a new pod with a new emptyDir. */
  const start = async (reference: string) => {
    const dir = privateDir('volume');
    dirs.push(dir);
    const mounts = [{ containerPath: '/data', hostPath: dir }];
    const pod = await run(reference, { command: alone, mounts });
    const { network } = await node.cri.podSandboxStatus(pod.podId);
    const ask = (question: string) => until('an answer', () => answerOf(network.ip, question));
    return { pod, dir, ask };
  };
  const source = await start(image);
  expect(await source.ask('set secret')).toBe('ok');
  await node.exec(source.pod, 'sh', '-c', 'echo kept >/run/held');
  expect(await source.ask('open /run/held')).toBe('ok');
  const warm = await node.checkpoint(source.pod, 'test/alone');
  await removePods();

  const restored = await start(warm);
  expect(await restored.ask('get')).toMatch(/^memory=secret /);
  // In the volume too its socket is there again.
  expect(readdirSync(restored.dir)).toEqual(['server.sock']);

  const failed = await start(await withoutDiff('test/alone'));
  expect(await failed.ask('get')).toMatch(/^memory=none /);
  // CRIU had bound its sockets: files are opened in the order of their descriptors.
  expect(await node.startOf(failed.pod)).toMatch(/restore failed, starting cold/);
  expect(readFileSync(join(node.bundle(failed.pod), 'criu-restore.log'), 'utf8')).toMatch(
    /bind id .* addr \/data\/server\.sock/,
  );
  expect(readdirSync(failed.dir).sort()).toEqual(['server.pid', 'server.sock']);
  await removePods();
  for (const dir of dirs) rmSync(dir, { recursive: true });
});

/** Of a pod-server; undefined while none listens. */
function answerOf(host: string, question: string): Promise<string | undefined> {
  const socket = connect({ host, port: 9000 });
  return new Promise((resolve) => {
    let answer = '';
    socket.once('connect', () => socket.write(`${question}\n`));
    socket.on('data', (bytes) => {
      answer += bytes.toString();
    });
    socket.once('close', () => resolve(answer.trim() || undefined));
    socket.once('error', () => resolve(undefined));
    socket.setTimeout(5_000, () => socket.destroy());
  });
}

it('a shim killed in the middle of a restore leaves nothing, and the pod can be run again', async () => {
  const image = `${node.registry.host}/${repository}:warm`;
  const running = (name: RegExp) =>
    readdirSync('/proc').filter((pid) => {
      try {
        return name.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '));
      } catch {
        return false;
      }
    });
  // At its beginning, and while CRIU makes the tasks.
  for (const pauseMs of [0, 5, 15, 30, 60]) {
    const pod = await node.createPod({ image, command, annotations: HOOKS_ACCEPTED });
    pods.push(pod);
    const started = node.cri.startContainer(pod.containerId).catch((error: unknown) => error);
    // It is there for some 60 ms.
    await until('CRIU', () => running(/criu.* swrk /).length > 0, 10_000, 5);
    await sleep(pauseMs);
    for (const pid of running(/ serve $/)) process.kill(Number(pid), 'SIGKILL');
    await started;
    pods.pop();
    await removeAfterCrash(pod);
    await assertNothingLeft(stock);
  }
  expect(await countOf(await run(image))).toBeGreaterThan(50);
});

it('a container that CRIU cannot dump goes on, and the error names the resource', async () => {
  const pod = await run(cold, {
    command: [
      '/bin/sh',
      '-c',
      'busybox fallocate -l 1200M /big && exec 8< /big && rm /big && set -- v1 && . /server.sh',
    ],
  });
  await countOf(pod);
  const reference = `${node.registry.host}/${repository}:never`;
  const result = await node.thaw(['checkpoint', pod.containerId, '--image', reference], {
    allowFailure: true,
  });
  expect(result.code).toBe(1);
  expect(result.stderr).toMatch(/big/);
  const before = await countOf(pod);
  await until('the server to go on', async () => (await countOf(pod)) > before);
  expect(readdirSync('/var/lib/thaw/work')).toEqual([]);
  const tags = await fetch(`http://${node.registry.host}/v2/${repository}/manifests/never`);
  expect(tags.status).toBe(404);
});
