import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CriClient, containerConfig, podConfig } from './lib/cri/index.ts';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  image,
  type Leftovers,
  layer,
  pauseImage,
  push,
  Registry,
  Snapshotter,
  takeStock,
  until,
} from './lib/index.ts';

const shell = async () => image([await layer(busybox())], { cmd: ['sh', '-c', 'echo up; exec sleep 1000'] });

describe('a node configured with deploy/containerd', () => {
  let registry: Registry;
  let snapshotter: Snapshotter;
  let containerd: Containerd;
  let cri: CriClient;
  let before: Leftovers;
  beforeAll(async () => {
    registry = await Registry.start();
    snapshotter = await Snapshotter.start();
    containerd = await Containerd.start({
      snapshotterSocket: snapshotter.socket,
      snapshotterRoot: snapshotter.root,
    });
    await containerd.importImage('test.local/pause:1', await pauseImage(), {
      namespace: 'k8s.io',
      snapshotter: 'thaw',
    });
    await containerd.importImage('test.local/busybox:1', await shell(), { snapshotter: 'thaw' });
    cri = new CriClient(containerd.socket);
  });
  afterAll(async () => {
    cri?.close();
    await containerd?.removeContainers('k8s.io');
    await containerd?.stop();
    await snapshotter?.stop();
    await registry?.stop();
    rmSync('/var/log/pods', { recursive: true, force: true });
  });
  beforeEach(() => {
    before = takeStock();
  });

  it('runs a container on thaw snapshots under the thaw shim', async () => {
    const thaw = ['--snapshotter', 'thaw', '--runtime', 'io.containerd.runc.thaw.v2'];
    const ran = await containerd.ctr(
      ['run', '--rm', ...thaw, 'test.local/busybox:1', 'one', 'sh', '-c', 'echo hello; exit 7'],
      { allowFailure: true },
    );
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toBe('hello\n');
    expect(ran.code).toBe(7);
    await assertNothingLeft(before);
  });

  it('pulls for the handler `thaw` into thaw snapshots and runs a pod there', async () => {
    const reference = await push(registry.host, 'test/shell', '1', await shell());
    const pod = podConfig({ name: 'web', uid: randomUUID(), runtimeHandler: 'thaw' });
    mkdirSync(`${pod.logDirectory}/main`, { recursive: true });
    const snapshots = async () =>
      (await containerd.ctr(['-n', 'k8s.io', 'snapshots', '--snapshotter', 'thaw', 'ls'])).stdout;
    const pulled = (await snapshots()).split('\n').length;
    const imageRef = await cri.pullImage(reference, pod, 'thaw');
    expect((await snapshots()).split('\n').length).toBeGreaterThan(pulled);

    const sandbox = await cri.runPodSandbox(pod, 'thaw');
    try {
      const config = containerConfig(pod, { name: 'main', image: reference, imageRef });
      const id = await cri.createContainer(sandbox, config, pod);
      await cri.startContainer(id);
      expect((await cri.execSync(id, ['hostname'])).stdout).toBe('web\n');
      const log = `${pod.logDirectory}/main/0.log`;
      await until('the log', () => readFileSync(log, 'utf8').includes('stdout F up'));
      expect(await snapshots()).toContain(id);
      await cri.stopContainer(id, 1);
      expect((await cri.containerStatus(id)).exitCode).toBe(137);
    } finally {
      await cri.stopPodSandbox(sandbox);
      await cri.removePodSandbox(sandbox);
    }
  });
});
