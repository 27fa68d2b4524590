/** A containerd of a test's own, with its own sockets and data. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TomlTable } from 'smol-toml';
import {
  bridgeNetwork,
  type ContainerdVersion,
  containerdConfig,
  importedConfig,
} from './containerd-config.ts';
import { privateDir, runDir } from './dirs.ts';
import { type Image, imageTar } from './image.ts';
import { Daemon, type RunOptions, type RunResult, run } from './program.ts';
import { until } from './wait.ts';

export interface ContainerdOptions {
  /** Data folder; one of its own below /state if absent, removed by `stop`. */
  dir?: string;
  /** Folder of its sockets and of running containers' state; one of its own if absent. Removed by `stop`. */
  state?: string;
  /** Socket of the thaw snapshotter; nobody needs to listen there as long as it is not used. */
  snapshotterSocket?: string;
  snapshotterRoot?: string;
  /** As in `RunPodSandbox`; default `test.local/pause:1`, which must be imported first. */
  sandboxImage?: string;
  /** Which drop-ins of deploy/containerd: for the runtime `thaw` alone (the default), for every image, or none. */
  dropIn?: 'containerd' | 'whole-node' | 'none';
  /** As on a node that was updated from containerd 1.7: a main file of version 2 that imports the drop-in of version 2. */
  updated?: boolean;
  /** Settings that win over all others. */
  extra?: TomlTable;
  env?: NodeJS.ProcessEnv;
  /** Default `debug`, which containerd also asks of its shims. */
  logLevel?: string;
}

const repo = join(import.meta.dirname, '../..');

export async function containerdVersion(): Promise<ContainerdVersion> {
  const { stdout } = await run('containerd', ['--version']);
  return / v?1\.7\./.test(stdout) ? '1.7' : '2';
}

export class Containerd {
  readonly version: ContainerdVersion;
  /** gRPC socket, also of the CRI services. */
  readonly socket: string;
  readonly dir: string;
  readonly log: string;
  readonly #ownDir: boolean;
  readonly #state: string;
  /** Its config.toml. */
  readonly config: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #logLevel: string;
  #daemon: Daemon | undefined;

  private constructor(version: ContainerdVersion, options: ContainerdOptions) {
    this.version = version;
    this.#ownDir = options.dir === undefined;
    this.dir = options.dir ?? privateDir('containerd');
    this.#state = options.state ?? runDir('containerd');
    mkdirSync(this.#state, { recursive: true, mode: 0o711 });
    this.socket = `${this.#state}/containerd.sock`;
    this.log = `${this.dir}/containerd.log`;
    this.config = `${this.dir}/config.toml`;
    this.#env = options.env ?? {};
    this.#logLevel = options.logLevel ?? 'debug';
    const cniConf = `${this.dir}/cni-conf`;
    mkdirSync(cniConf, { recursive: true });
    writeFileSync(`${cniConf}/10-thaw-test.conflist`, bridgeNetwork(this.#state));
    const suffix = options.updated ? '1.7' : version;
    const paths = {
      root: `${this.dir}/root`,
      state: `${this.#state}/state`,
      socket: this.socket,
      cniConf,
      snapshotterSocket: options.snapshotterSocket ?? '/run/thaw/snapshotter.sock',
      snapshotterRoot: options.snapshotterRoot ?? '/var/lib/thaw',
    };
    const cri = { sandboxImage: options.sandboxImage ?? 'test.local/pause:1' };
    const { dropIn = 'containerd' } = options;
    const fragment =
      dropIn === 'none'
        ? `version = ${suffix === '2' ? 3 : 2}`
        : readFileSync(join(repo, `deploy/containerd/${dropIn}-${suffix}.toml`), 'utf8');
    if (options.updated) {
      const imported = `${this.dir}/thaw.toml`;
      writeFileSync(imported, importedConfig(fragment, paths));
      const extra = { ...options.extra, imports: [imported] };
      writeFileSync(this.config, containerdConfig('1.7', 'version = 2', paths, cri, extra));
    } else writeFileSync(this.config, containerdConfig(version, fragment, paths, cri, options.extra));
  }

  /** Its files; `restart` starts it. */
  static async make(options: ContainerdOptions = {}): Promise<Containerd> {
    return new Containerd(await containerdVersion(), options);
  }

  /** Starts containerd and waits until it and its CRI plug-in answer. */
  static async start(options: ContainerdOptions = {}): Promise<Containerd> {
    const containerd = await Containerd.make(options);
    await containerd.restart();
    return containerd;
  }

  get pid(): number {
    return this.#daemon?.pid ?? -1;
  }

  /** Starts it again after `kill` or `halt`, or restarts it; running containers go on. Rejects if it does not answer in time. */
  async restart(readyMs = 20_000): Promise<void> {
    await this.halt();
    const args = ['--config', this.config, '--log-level', this.#logLevel];
    this.#daemon = await Daemon.start('containerd', args, {
      log: this.log,
      env: this.#env,
      readyMs,
      ready: async () => {
        const done = await this.ctr(['plugins', 'ls', '-q'], { allowFailure: true, timeoutMs: 5000 });
        return done.code === 0;
      },
    });
  }

  /** Ends the daemon alone; containers, shims and data stay. */
  async halt(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    await daemon?.stop();
  }

  /** kill -9 of the daemon. */
  async kill(): Promise<void> {
    await this.#daemon?.kill();
    this.#daemon = undefined;
  }

  /** Ends the daemon and removes its files. Containers must have been removed before. */
  async stop(): Promise<void> {
    await this.halt();
    rmSync(this.#state, { recursive: true, force: true, maxRetries: 3 });
    if (this.#ownDir) rmSync(this.dir, { recursive: true, force: true });
  }

  /** `ctr`; options such as `-n k8s.io` come first in `args`. */
  ctr(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run('ctr', ['--address', this.socket, ...args], options);
  }

  /**
   * When this returns, what nothing refers to is gone. Else that may take long: containerd leaves 49 times as long as a
   * collection takes between two of them (pause_threshold of its gc.scheduler), on a slow disk more than half a minute.
   */
  async collectGarbage(): Promise<void> {
    await this.ctr(['leases', 'create', '--id', 'collect']);
    await this.ctr(['leases', 'delete', '--sync', 'collect']);
  }

  /**
   * Waits until containerd's connection to a proxy plug-in stands. After a failed one it tries again only some seconds
   * later, and fails every call until then. A list would not ask the plug-in where containerd knows no snapshot.
   */
  async reachSnapshotter(name = 'thaw'): Promise<void> {
    const snapshots = (...args: string[]) => this.ctr(['snapshots', '--snapshotter', name, ...args]);
    await until(
      'containerd to reach the snapshotter',
      async () => {
        await snapshots('prepare', 'reach');
        return true;
      },
      30_000,
    );
    await snapshots('rm', 'reach');
  }

  /** Imports an image made here and unpacks it for a snapshotter. */
  async importImage(
    name: string,
    image: Image,
    { namespace = 'default', snapshotter = 'overlayfs' } = {},
  ): Promise<void> {
    const file = `${this.dir}/import.tar`;
    writeFileSync(file, await imageTar(name, image));
    // The transfer service of 2.x knows only the snapshotters that its own configuration lists.
    const local = this.version === '2' ? ['--local'] : [];
    await this.ctr(['-n', namespace, 'images', 'import', ...local, '--snapshotter', snapshotter, file]);
    rmSync(file);
  }

  /** Kills and removes every task, container and lease of a namespace; snapshots and images stay. */
  async removeContainers(namespace = 'default'): Promise<void> {
    const ctr = (...args: string[]) => this.ctr(['-n', namespace, ...args], { allowFailure: true });
    const list = async (what: 'task' | 'container') =>
      (await ctr(what, 'ls', '-q')).stdout.split('\n').filter((id) => id !== '');
    for (const id of await list('task')) await ctr('task', 'rm', '-f', id);
    for (const id of await list('container')) await ctr('container', 'rm', id);
  }

  tail(lines?: number): string {
    return this.#daemon?.tail(lines) ?? readFileSync(this.log, 'utf8').split('\n').slice(-40).join('\n');
  }
}
