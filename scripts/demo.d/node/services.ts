import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { RegistryClient } from '../../../checkpoint/registry/index.ts';
import { describeError } from '../../../proto/status.ts';
import { Containerd } from '../../../test/lib/containerd.ts';
import { CriClient } from '../../../test/lib/cri/index.ts';
import { pauseImage, push } from '../../../test/lib/image.ts';
import { Daemon, run } from '../../../test/lib/program.ts';
import { Registry } from '../../../test/lib/registry.ts';
import { until } from '../../../test/lib/wait.ts';

const snapshotterSocket = '/run/thaw/snapshotter.sock';

/** What runs in the demo's node, and how to speak to it. */
export interface Services {
  containerd: Containerd;
  cri: CriClient;
  registry: Registry;
  /** Speaks to `registry`. */
  images: RegistryClient;
  /** Image of pod sandboxes. */
  pause: string;
  /** Ends all of it, the last started first. */
  stop(): Promise<void>;
}

/**
 * Starts docker-registry on its data of earlier runs, thaw-snapshotter, and containerd as deploy/ configures it.
 * If one does not start, those before it are stopped.
 */
export async function startServices(directory: string, logs: string): Promise<Services> {
  const undo: (() => Promise<void>)[] = [];
  const stop = async () => {
    // One that does not end is no reason to leave the others; the node ends them all at the latest.
    for (const step of undo.splice(0).reverse())
      await step().catch((error: unknown) =>
        process.stderr.write(`warning: ${describeError(error).message}\n`),
      );
  };
  try {
    // Its log is read to the byte: that of another run must not be in it.
    await rm(join(directory, 'registry.log'), { force: true });
    const registry = await Registry.start({ dir: directory, port: 5000 });
    undo.push(() => registry.stop());
    const images = new RegistryClient({ registry: registry.host, plainHttp: true });
    undo.push(() => images.close());
    const pause = await push(registry.host, 'thaw-demo/pause', '1', await pauseImage());

    const log = join(logs, 'thaw-snapshotter.log');
    await rm(log, { force: true });
    const snapshotter = await Daemon.start('thaw-snapshotter', [], {
      log,
      ready: () => connectable(snapshotterSocket),
    });
    undo.push(() => snapshotter.stop());
    const containerdFiles = '/state/containerd-demo';
    await mkdir(containerdFiles, { mode: 0o700 });
    const containerd = await Containerd.start({ sandboxImage: pause, dir: containerdFiles });
    undo.push(async () => {
      await writeFile(join(logs, 'containerd.log'), containerd.tail(20_000));
      await containerd.stop();
    });
    const cri = new CriClient(containerd.socket);
    undo.push(async () => cri.close());
    await until('containerd to be ready for pods', async () =>
      (await cri.status()).conditions.every((condition) => condition.status),
    );
    return { containerd, cri, registry, images, pause, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * Takes a repository out of the registry's data, and the blobs that nobody needs then, so that the registry does not
 * grow with every run. The registry must not be running.
 */
export async function dropRepository(directory: string, repository: string): Promise<void> {
  const data = join(directory, 'data/docker/registry/v2');
  await rm(join(data, 'repositories', repository), { recursive: true, force: true });
  // The collector takes a registry that nothing was pushed to yet for a broken one.
  if (!existsSync(join(data, 'blobs')) || !existsSync(join(data, 'repositories'))) return;
  const config = join(directory, 'collect.json');
  const storage = { filesystem: { rootdirectory: join(directory, 'data') } };
  await writeFile(config, JSON.stringify({ version: 0.1, log: { level: 'error' }, storage }));
  await run('docker-registry', ['garbage-collect', config], { timeoutMs: 120_000 });
}

/** Body bytes that the registry sent from its `from`-th answer on, once it is idle. */
export async function sentSince(registry: Registry, from: number): Promise<number> {
  const requests = await registry.settled();
  return requests
    .slice(from)
    .filter((request) => request.method === 'GET')
    .reduce((sum, request) => sum + request.sent, 0);
}

/** Whether somebody listens on a unix socket. */
function connectable(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const answer = (yes: boolean) => {
      socket.destroy();
      resolve(yes);
    };
    socket.setTimeout(1000, () => answer(false));
    socket.once('connect', () => answer(true));
    socket.once('error', () => answer(false));
  });
}
