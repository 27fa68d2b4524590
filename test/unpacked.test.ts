/** Checkpoint images as ordinary images: unpacked, exported, checkpointed again. */
import { rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { assertNothingLeft, type Leftovers, takeStock, until } from './lib/index.ts';
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';

const server = `
token=none; n=0
while :; do
  if [ -f /tmp/token ]; then token=$(cat /tmp/token); rm /tmp/token; echo "$token" >> /tokens; fi
  n=$((n+1)); echo "$token $n" > /tmp/state.new; mv /tmp/state.new /tmp/state; sleep 0.1
done`;
const command = ['/bin/sh', '/server.sh'];
const repository = 'test/unpacked';

let node: KubeletNode;
let stock: Leftovers;
let warm: string;
const pods: Pod[] = [];

async function run(image: string): Promise<Pod> {
  const pod = await node.runPod({ image, command });
  pods.push(pod);
  return pod;
}

async function tokenOf(pod: Pod): Promise<string> {
  const text = await until('the server to write its state', () =>
    node.exec(pod, 'cat', '/tmp/state').catch(() => ''),
  );
  return text.split(' ')[0] ?? '';
}

async function setToken(pod: Pod, token: string): Promise<void> {
  await node.exec(pod, 'sh', '-c', `echo ${token} > /tmp/token`);
  await until('the token to be taken', async () => (await tokenOf(pod)) === token);
}

async function layersOf(tag: string): Promise<{ digest: string; annotations?: Record<string, string> }[]> {
  const answer = await fetch(`http://${node.registry.host}/v2/${repository}/manifests/${tag}`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  return ((await answer.json()) as { layers: { digest: string }[] }).layers;
}

const ctr = (...args: string[]) => node.containerd.ctr(['-n', 'k8s.io', ...args], { timeoutMs: 120_000 });

async function removePods(): Promise<void> {
  for (const pod of pods.splice(0)) await node.removePod(pod);
}

beforeAll(async () => {
  node = await KubeletNode.start();
  const cold = await node.pushImage(repository, [{ path: 'server.sh', content: server }], command);
  const pod = await run(cold);
  await setToken(pod, 'first');
  warm = await node.checkpoint(pod, repository);
  await removePods();
  await node.forget(warm);
});
afterAll(() => node.stop());
beforeEach(() => {
  stock = takeStock();
});
afterEach(async () => {
  await removePods();
  await assertNothingLeft(stock);
});

it('an image pulled and unpacked by ctr is restored without a registry, on either snapshotter', async () => {
  const local = node.containerd.version === '2' ? ['--local'] : [];
  for (const snapshotter of ['overlayfs', 'thaw']) {
    await ctr('images', 'pull', '--plain-http', ...local, '--snapshotter', snapshotter, warm);
    await node.registry.halt();
    try {
      const id = `unpacked-${snapshotter}`;
      await ctr(
        'run',
        '-d',
        '--null-io',
        '--snapshotter',
        snapshotter,
        '--runtime',
        'io.containerd.runc.thaw.v2',
        warm,
        id,
      );
      const read = () =>
        ctr('task', 'exec', '--exec-id', 'read', id, 'cat', '/tmp/state').catch(() => undefined);
      const state = await until('the server to answer', read);
      // `ctr run` asks for other mounts than the kubelet did: the checkpoint is found, and cold is the answer.
      expect(state.stdout).toMatch(/^none /);
      expect((await ctr('task', 'exec', '--exec-id', 'ls', id, 'ls', '-a', '/')).stdout).not.toMatch(
        /\.thaw/,
      );
      expect(node.shimLog()).toMatch(/is mounted at|is new/);
      await ctr('task', 'rm', '-f', id);
      await ctr('container', 'rm', id);
    } finally {
      await node.registry.restart();
    }
  }
  // The kubelet finds the image on the node, unpacked: it is restored from its files.
  const before = node.registry.requests().length;
  expect(await tokenOf(await run(warm))).toBe('first');
  const blobs = (await node.registry.settled()).slice(before).filter(({ uri }) => uri.includes('/blobs/'));
  expect(blobs).toEqual([]);
  await removePods();
  await node.forget(warm);
});

it('an image pulled lazily is completed by thaw fetch and exported', async () => {
  await run(warm);
  const file = `${node.root}.export.tar`;
  try {
    await node.thaw(['fetch', warm]);
    await ctr('images', 'export', file, warm);
    await removePods();
    await node.forget(warm);
    await node.registry.halt();
    try {
      const local = node.containerd.version === '2' ? ['--local'] : [];
      await ctr('images', 'import', ...local, '--snapshotter', 'thaw', file);
      // The CRI plug-in hears of it by an event.
      await until('CRI to know the image', () => node.cri.imageStatus(warm));
      expect(await tokenOf(await run(warm))).toBe('first');
    } finally {
      await node.registry.restart();
    }
  } finally {
    rmSync(file, { force: true });
  }
  await removePods();
  await node.forget(warm);
});

it('a restored container is checkpointed and restored again, and its image does not grow by generation', async () => {
  const second = await run(warm);
  await setToken(second, 'second');
  const next = await node.checkpoint(second, repository, 'second');
  await removePods();
  const third = await run(next);
  expect(await tokenOf(third)).toBe('second');
  // The diff holds what both generations wrote.
  expect(await node.exec(third, 'cat', '/tokens')).toBe('first\nsecond\n');
  const [first, again] = await Promise.all([layersOf('warm'), layersOf('second')]);
  expect(again.length).toBe(first.length);
  await removePods();
  await node.forget(next);
});
