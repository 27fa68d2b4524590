/**
 * `thaw prefetch` and `thaw status --watch` on a node, what disk pressure sees of a checkpoint, and a pull with a pod's
 * credentials.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CriClient, podConfig } from './lib/cri/index.ts';
import { FaultProxy } from './lib/fault-proxy.ts';
import { until } from './lib/index.ts';
import { KubeletNode } from './lib/kubelet-node.ts';

const IMAGE_SERVICE = '/run/thaw/images.sock';
const command = ['/bin/sh', '-c', 'echo up; while :; do sleep 0.1; done'];

interface Checkpoint {
  id: string;
  image: string;
  state: string;
  storedBytes: number;
  presentBytes: number;
}

let node: KubeletNode;
let cold: string;
let warm: string;

beforeAll(async () => {
  node = await KubeletNode.start({ config: { image_service: { address: IMAGE_SERVICE } } });
  cold = await node.pushImage('test/prefetch', [], command);
  const pod = await node.runPod({ image: cold, command });
  warm = await node.checkpoint(pod, 'test/prefetch');
  await node.removePod(pod);
  await node.forget(warm);
  await node.forget(cold);
});
afterAll(() => node.stop());

async function checkpoints(): Promise<Checkpoint[]> {
  const { stdout } = await node.thaw(['status', '--json']);
  return (JSON.parse(stdout) as { checkpoints: Checkpoint[] }).checkpoints;
}

const ctr = (...args: string[]) => node.containerd.ctr(['-n', 'k8s.io', ...args]);

/** Bytes of all snapshots, as the CRI plug-in adds them up for the kubelet. */
async function snapshotBytes(): Promise<number> {
  const { stdout } = await ctr('snapshots', '--snapshotter', 'thaw', 'usage', '-b');
  const sizes = stdout
    .split('\n')
    .slice(1)
    .map((line) => Number(line.trim().split(/\s+/)[1] ?? 0));
  return sizes.reduce((sum, size) => sum + size, 0);
}

it('brings image and checkpoint here; its bytes count; a pod then starts without the registry', async () => {
  const before = await snapshotBytes();
  const done = await node.thaw(['prefetch', warm, '--json']);
  const told = JSON.parse(done.stdout) as { checkpoint: string; storedBytes: number; fetchedBytes: number };
  expect(done.stderr).toMatch(/Pulling the image.*\n(.*\n)*Fetching the checkpoint: /);
  expect(told.fetchedBytes).toBeGreaterThanOrEqual(told.storedBytes);
  expect(await checkpoints()).toMatchObject([
    { id: told.checkpoint, image: warm, state: 'complete', presentBytes: told.storedBytes },
  ]);
  // The pages of the process, decoded: more than what is stored.
  expect((await snapshotBytes()) - before).toBeGreaterThan(told.storedBytes);

  await node.registry.halt();
  try {
    const pod = await node.runPod({ image: warm, command });
    expect(await node.startOf(pod)).toContain('"restored"');
    await node.removePod(pod);
  } finally {
    await node.registry.restart();
  }
});

it('fetches again what was evicted, and is done at once with what is here', async () => {
  const [{ id } = { id: '' }] = await checkpoints();
  await until('the checkpoint to be free', async () => {
    const done = await node.thaw(['evict', id], { allowFailure: true });
    return done.code === 0;
  });
  const again = await node.thaw(['prefetch', warm]);
  expect(again.stdout).toMatch(/is on this node: checkpoint sha256:/);
  expect((await checkpoints())[0]).toMatchObject({ id, state: 'complete' });
  const requests = node.registry.requests().length;
  await node.thaw(['prefetch', warm]);
  const blobs = (await node.registry.settled()).slice(requests).filter(({ uri }) => uri.includes('/blobs/'));
  expect(blobs.filter(({ status }) => status === 206)).toEqual([]);
});

it('goes with its image, as garbage collection of images removes it', async () => {
  const full = await snapshotBytes();
  await node.cri.removeImage(warm);
  await until('the checkpoint to leave the cache', async () => (await checkpoints()).length === 0);
  expect(await snapshotBytes()).toBeLessThan(full);
});

it('pulls an ordinary image too, and says that it has no checkpoint', async () => {
  const done = await node.thaw(['prefetch', cold]);
  expect(done.stdout).toBe(`${cold} is on this node; it has no checkpoint\n`);
  expect(await node.cri.imageStatus(cold)).toBeDefined();
});

it('ends with status 1 and the reason for an image or a daemon that is not there', async () => {
  const missing = await node.thaw(['prefetch', `${node.registry.host}/test/none:1`], { allowFailure: true });
  expect(missing.code).toBe(1);
  expect(missing.stderr).toMatch(/thaw: Cannot pull .*test\/none:1/);
  const alone = await node.thaw(['prefetch', warm, '--socket', '/none.sock'], { allowFailure: true });
  expect(alone.code).toBe(1);
  expect(alone.stderr).toMatch(/Cannot reach thaw-snapshotter at \/none.sock/);
});

it('is watched, over a restart of the daemon, until that is interrupted', async () => {
  const watching = spawn('thaw', ['status', '--watch', '--json'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = new Promise<number | null>((resolve) => watching.once('exit', resolve));
  let text = '';
  watching.stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  const lines = () => text.split('\n').filter((line) => line !== '');
  try {
    await until('the first look', () => lines().length === 1);
    await node.thaw(['prefetch', warm]);
    await until('the checkpoint to be seen', () => lines().at(-1)?.includes('"state":"complete"'));
    await node.stopSnapshotter();
    await until('its absence to be seen', () => lines().at(-1)?.includes('Cannot reach thaw-snapshotter'));
    await node.startSnapshotter();
    await until('its return to be seen', () => lines().at(-1)?.includes('"state":"complete"'));
  } finally {
    watching.kill('SIGINT');
    expect(await ended).toBe(130);
  }
});

it('fetches with the credentials of the pull that went through it', async () => {
  await node.forget(warm);
  const proxy = await FaultProxy.start(node.registry.host);
  const login = { username: 'me', password: 'hunter2-and-more' };
  proxy.login = { ...login, usesOfToken: 3 };
  const kubelet = new CriClient(IMAGE_SERVICE);
  const image = `${proxy.host}/test/prefetch:warm`;
  const pod = podConfig({ name: 'private', uid: randomUUID(), runtimeHandler: 'thaw' });
  try {
    await expect(kubelet.pullImage(image, pod, 'thaw')).rejects.toThrow();
    await kubelet.pullImage(image, pod, 'thaw', login);
    const complete = async () => (await checkpoints()).every(({ state }) => state === 'complete');
    await until('the checkpoint to be here', complete, 60_000);
    expect(await kubelet.imageStatus(image)).toMatchObject({ repoTags: [image] });
    // What the daemon did not have credentials for is left to containerd, and then never in its list.
    expect((await checkpoints()).length).toBe(1);
    expect(node.snapshotterLog()).not.toContain(login.password);
  } finally {
    await kubelet.removeImage(image).catch(() => {});
    kubelet.close();
    await proxy.stop();
  }
});
