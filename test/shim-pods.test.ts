import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import type { TomlTable } from 'smol-toml';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CriClient, containerConfig, podConfig } from './lib/cri/index.ts';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  containerdVersion,
  image,
  type Leftovers,
  layer,
  pauseImage,
  push,
  Registry,
  takeStock,
  until,
} from './lib/index.ts';

const SHIM = '/opt/thaw/current/bin/containerd-shim-thaw-v2';

/** Both ways to configure thaw, on containerd's own snapshotter. */
const runtimes: TomlTable = {
  named: { runtime_type: 'io.containerd.runc.thaw.v2' },
  path: { runtime_type: 'io.containerd.runc.v2', runtime_path: SHIM },
};

/** Ids that shim servers were started for. */
const servers = () =>
  readdirSync('/proc').flatMap((pid) => {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return args.at(-2) === 'serve' ? [args[args.indexOf('-id') + 1]] : [];
    } catch {
      return [];
    }
  });

describe.each(['named', 'path'])('pods with the shim by %s', (handler) => {
  let before: Leftovers;
  let registry: Registry;
  let containerd: Containerd;
  let cri: CriClient;
  let reference: string;

  beforeAll(async () => {
    registry = await Registry.start();
    const pause = await push(registry.host, 'test/pause', '1', await pauseImage());
    const command = ['sh', '-c', 'trap "exit 9" TERM; echo up; while :; do sleep 0.1; done'];
    reference = await push(
      registry.host,
      'test/busybox',
      '1',
      image([await layer(busybox())], { cmd: command }),
    );
    const version = await containerdVersion();
    const plugin = version === '2' ? 'io.containerd.cri.v1.runtime' : 'io.containerd.grpc.v1.cri';
    containerd = await Containerd.start({
      sandboxImage: pause,
      extra: { plugins: { [plugin]: { containerd: { runtimes } } } },
    });
    cri = new CriClient(containerd.socket);
    await until('pods to be possible', async () => (await cri.status()).conditions.every((c) => c.status));
    const warmUp = await cri.runPodSandbox(newPod(), handler);
    await removePod(warmUp);
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
    for (const pod of await cri.listPodSandboxes()) await removePod(pod.id);
    await assertNothingLeft(before, 10_000, [
      /^cgroups: .*\/kubepods\/burstable\/pod[^/]*$/, // the kubelet's own, which removes it
      /^files: .*\.grpc\.v1\.cri\/containers$/,
    ]);
  });

  function newPod() {
    const config = podConfig({ name: 'web', uid: randomUUID(), runtimeHandler: handler });
    for (const name of ['main', 'side']) mkdirSync(`${config.logDirectory}/${name}`, { recursive: true });
    return config;
  }
  async function removePod(id: string) {
    await cri.stopPodSandbox(id);
    await cri.removePodSandbox(id);
  }

  it('serves all containers of a pod from one process: logs, exec, stop, exit codes', async () => {
    const config = newPod();
    const imageRef = await cri.pullImage(reference, config, handler);
    const sandbox = await cri.runPodSandbox(config, handler);
    const start = async (name: string) => {
      const options = { name, image: reference, imageRef };
      const id = await cri.createContainer(sandbox, containerConfig(config, options), config);
      await cri.startContainer(id);
      await until('the first line', () =>
        /^\S+ stdout F up$/m.test(readFileSync(`${config.logDirectory}/${name}/0.log`, 'utf8')),
      );
      return id;
    };
    const main = await start('main');
    const side = await start('side');
    expect(servers()).toEqual([sandbox]);

    expect(await cri.execSync(main, ['sh', '-c', 'echo "$(hostname)"; echo no >&2; exit 7'])).toEqual({
      stdout: 'web\n',
      stderr: 'no\n',
      exitCode: 7,
    });
    await cri.stopContainer(main, 10);
    expect(await cri.containerStatus(main)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 9 });
    expect((await cri.containerStatus(side)).state).toBe('CONTAINER_RUNNING');
    await cri.removeContainer(main);
    expect(servers()).toEqual([sandbox]);
  });

  it('keeps a pod over a restart of containerd', async () => {
    const config = newPod();
    const imageRef = await cri.pullImage(reference, config, handler);
    const sandbox = await cri.runPodSandbox(config, handler);
    const id = await cri.createContainer(
      sandbox,
      containerConfig(config, { name: 'main', image: reference, imageRef }),
      config,
    );
    await cri.startContainer(id);
    await containerd.kill();
    await containerd.restart();
    await until(
      'the container to be found',
      async () => (await cri.containerStatus(id)).state === 'CONTAINER_RUNNING',
    );
    expect((await cri.execSync(id, ['echo', 'here'])).stdout).toBe('here\n');
    await cri.stopContainer(id, 10);
    expect(await cri.containerStatus(id)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 9 });
  });
});
