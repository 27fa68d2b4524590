import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../proto/status.ts';
import { CriClient, containerConfig, type PodSandboxConfig, podConfig } from './lib/cri/index.ts';
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
  takeStock,
  until,
} from './lib/index.ts';

/** Speaks to containerd's own shim and snapshotter: what fails here is the client, not thaw. */
describe('the CRI client', () => {
  let before: Leftovers;
  let registry: Registry;
  let containerd: Containerd;
  let cri: CriClient;
  let reference: string;

  beforeAll(async () => {
    registry = await Registry.start();
    const pause = await push(registry.host, 'test/pause', '1', await pauseImage());
    reference = await push(
      registry.host,
      'test/busybox',
      '1',
      image([await layer(busybox())], {
        cmd: ['sh', '-c', 'trap "exit 9" TERM; echo up; while :; do sleep 0.1; done'],
      }),
    );
    containerd = await Containerd.start({ sandboxImage: pause });
    cri = new CriClient(containerd.socket);
    await until('pods to be possible', async () => (await cri.status()).conditions.every((c) => c.status));
    // The pause image and what CRI makes for its first pod stay.
    const warmUp = newPod();
    const id = await cri.runPodSandbox(warmUp, 'runc');
    await cri.stopPodSandbox(id);
    await cri.removePodSandbox(id);
  });
  afterAll(async () => {
    cri.close();
    await containerd.stop();
    await registry.stop();
    rmSync('/var/log/pods', { recursive: true, force: true });
  });
  beforeEach(() => {
    before = takeStock();
  });
  afterEach(async () => {
    for (const pod of await cri.listPodSandboxes()) {
      await cri.stopPodSandbox(pod.id);
      await cri.removePodSandbox(pod.id);
    }
    await assertNothingLeft(before, 10_000, [
      /^cgroups: .*\/kubepods\/burstable\/pod[^/]*$/, // the kubelet's own, which removes it
      /^files: .*\.grpc\.v1\.cri\/containers$/,
    ]);
  });

  function newPod(): PodSandboxConfig {
    const config = podConfig({ name: 'web', uid: randomUUID(), runtimeHandler: 'runc' });
    mkdirSync(`${config.logDirectory}/main`, { recursive: true });
    return config;
  }

  it('runs a pod as a kubelet does: log, exec, stop signal, exit code', async () => {
    const config = newPod();
    const imageRef = await cri.pullImage(reference, config, 'runc');
    const sandbox = await cri.runPodSandbox(config, 'runc');
    const { network, state } = await cri.podSandboxStatus(sandbox);
    expect(network.ip).toMatch(/^10\.88\./);
    expect(state).toBe('SANDBOX_READY');

    const options = { name: 'main', image: reference, imageRef, env: { COLOUR: 'blue' } };
    const container = await cri.createContainer(sandbox, containerConfig(config, options), config);
    expect((await cri.containerStatus(container)).state).toBe('CONTAINER_CREATED');
    await cri.startContainer(container);
    const log = () => readFileSync(`${config.logDirectory}/main/0.log`, 'utf8');
    await until('the first line', () => /^\S+ stdout F up$/m.test(log()));

    const ran = await cri.execSync(container, [
      'sh',
      '-c',
      'echo "$COLOUR $(hostname)"; echo no >&2; exit 7',
    ]);
    expect(ran).toEqual({ stdout: 'blue web\n', stderr: 'no\n', exitCode: 7 });
    expect((await cri.listContainers({ podSandboxId: sandbox })).map((c) => c.id)).toEqual([container]);

    await cri.stopContainer(container, 10);
    const status = await cri.containerStatus(container);
    expect(status).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 9 });
    expect(status.finishedAt).toBeGreaterThan(status.startedAt);
    await cri.removeContainer(container);
    expect(await cri.listContainers()).toEqual([]);
  });

  it('knows which images are here, until they are removed', async () => {
    await cri.pullImage(reference, newPod(), 'runc');
    const found = await cri.imageStatus(reference);
    expect(found?.repoTags).toEqual([reference]);
    expect(found?.size).toBeGreaterThan(0n);
    await cri.removeImage(reference);
    expect(await cri.imageStatus(reference)).toBeUndefined();
    expect((await cri.listImages()).flatMap((i) => i.repoTags)).not.toContain(reference);
  });

  it('passes errors on with their codes', async () => {
    await expect(cri.containerStatus('none')).rejects.toMatchObject({ code: Code.notFound });
    await expect(cri.runPodSandbox(newPod(), 'no-such-handler')).rejects.toThrow(/no-such-handler/);
  });

  it('says what is spoken to', async () => {
    expect((await cri.version()).runtimeName).toBe('containerd');
    // containerd 1.7 does not name its handlers.
    const handlers = containerd.version === '1.7' ? [] : ['runc', 'thaw'];
    expect((await cri.status()).handlers).toEqual(expect.arrayContaining(handlers));
  });
});
