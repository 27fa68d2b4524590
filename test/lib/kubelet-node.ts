/** Everything of a thaw node in one place: registry, thaw-snapshotter, containerd, a kubelet's CRI calls, the CLI. */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { stringify, type TomlTable } from 'smol-toml';
import { Containerd, type ContainerdOptions } from './containerd.ts';
import { type ContainerOptions, CriClient, containerConfig, podCgroup, podConfig } from './cri/index.ts';
import { privateDir } from './dirs.ts';
import { busybox, type Entry, image, imageTar, layer, pauseImage, push } from './image.ts';
import { Daemon, type RunResult, run } from './program.ts';
import { Registry } from './registry.ts';
import { accepts } from './snapshotter.ts';
import { until } from './wait.ts';

const HANDLER = 'thaw';
const STATE = '/run/thaw';

export interface Pod {
  podId: string;
  containerId: string;
  name: string;
  uid: string;
  logFile: string;
  /** Another container in the same pod, made as a kubelet does after the one before has ended. Not started. */
  again(): Promise<Pod>;
}

export interface SandboxRequest {
  annotations?: Record<string, string>;
  /** Of its runtime class; default `thaw`. */
  handler?: string;
  shareProcessNamespace?: boolean;
}

export interface PodRequest extends Partial<ContainerOptions>, SandboxRequest {
  image: string;
}

export type KubeletNodeOptions = Pick<
  ContainerdOptions,
  'logLevel' | 'extra' | 'dropIn' | 'updated' | 'env'
> & {
  root?: string;
  /** Further keys of the snapshotter's config.toml. */
  config?: TomlTable;
};

export class KubeletNode {
  readonly registry: Registry;
  readonly containerd: Containerd;
  readonly cri: CriClient;
  /** Of the snapshotter. */
  readonly root: string;
  /** The beginning of the names of its other files. */
  readonly #prefix: string;
  #snapshotter: Daemon | undefined;
  #pods = 0;

  private constructor(registry: Registry, containerd: Containerd, root: string, prefix: string) {
    this.registry = registry;
    this.containerd = containerd;
    this.root = root;
    this.#prefix = prefix;
    this.cri = new CriClient(containerd.socket);
  }

  /** With its snapshotter's data in `root`, which `stop` removes. */
  static async start(options: KubeletNodeOptions = {}): Promise<KubeletNode> {
    const prefix = privateDir('thaw');
    const { root = prefix, config = {} } = options;
    const registry = await Registry.start();
    const containerd = await Containerd.make({
      ...options,
      snapshotterRoot: root,
      snapshotterSocket: `${STATE}/snapshotter.sock`,
    });
    writeFileSync(`${prefix}.toml`, stringify({ root, containerd_address: containerd.socket, ...config }));
    const node = new KubeletNode(registry, containerd, root, prefix);
    // `none` is a node that knows nothing of thaw. Side by side, and so that containerd hardly ever finds nobody: it then
    // waits for seconds before it tries again.
    const withThaw = options.dropIn !== 'none';
    await Promise.all([containerd.restart(), withThaw && node.#startDaemon()]);
    if (withThaw) await containerd.reachSnapshotter();
    const tar = `${containerd.dir}/pause.tar`;
    writeFileSync(tar, await imageTar('test.local/pause:1', await pauseImage()));
    const local = containerd.version === '2' ? ['--local'] : [];
    await containerd.ctr(['-n', 'k8s.io', 'images', 'import', ...local, tar]);
    return node;
  }

  /** The snapshotter's config.toml. */
  get config(): string {
    return `${this.#prefix}.toml`;
  }

  async startSnapshotter(): Promise<void> {
    await this.#startDaemon();
    await this.containerd.reachSnapshotter();
  }

  async #startDaemon(): Promise<void> {
    this.#snapshotter = await Daemon.start('thaw-snapshotter', ['--config', this.config], {
      log: `${this.#prefix}.log`,
      ready: async () =>
        (await accepts(`${STATE}/snapshotter.sock`)) && (await accepts(`${STATE}/thaw.sock`)),
    });
  }

  async stopSnapshotter(): Promise<void> {
    await this.#snapshotter?.stop();
    this.#snapshotter = undefined;
  }

  async killSnapshotter(): Promise<void> {
    await this.#snapshotter?.kill();
    this.#snapshotter = undefined;
  }

  /** Removes every pod and image, then stops all. `withSnapshotter`: one must run, for what lies on it. */
  async stop({ withSnapshotter = true } = {}): Promise<void> {
    if (!this.#snapshotter && withSnapshotter) await this.startSnapshotter();
    for (const pod of await this.cri.listPodSandboxes()) {
      await this.cri.stopPodSandbox(pod.id);
      await this.cri.removePodSandbox(pod.id);
    }
    this.cri.close();
    await this.containerd.removeContainers('k8s.io');
    await this.containerd.stop();
    await this.stopSnapshotter();
    await this.registry.stop();
    for (const path of [this.root, this.#prefix, `${this.#prefix}.toml`, `${this.#prefix}.log`])
      rmSync(path, { recursive: true, force: true });
    rmSync(STATE, { recursive: true, force: true });
  }

  /** Pushes an image of a busybox root and these further entries. */
  async pushImage(repository: string, entries: readonly Entry[], cmd: string[]): Promise<string> {
    return push(
      this.registry.host,
      repository,
      'cold',
      image([await layer(busybox()), await layer(entries)], { cmd }),
    );
  }

  /** A pod of one container, started; an image that is not there is pulled first, as a kubelet does. */
  async runPod(request: PodRequest): Promise<Pod> {
    const pod = await this.createPod(request);
    await this.cri.startContainer(pod.containerId);
    return pod;
  }

  async createPod(request: PodRequest): Promise<Pod> {
    const { podId, name, uid, config } = await this.createSandbox(request);
    const logFile = (attempt: number) => `${config.logDirectory}/main/${attempt}.log`;
    const create = async (attempt: number): Promise<Pod> => {
      const containerId = await this.createContainer(podId, config, { attempt, ...request });
      const again = () => create(attempt + 1);
      return { podId, containerId, name, uid, logFile: logFile(attempt), again };
    };
    return create(0);
  }

  /** A pod without a container. */
  async createSandbox({ annotations, handler = HANDLER, shareProcessNamespace = false }: SandboxRequest) {
    this.#pods += 1;
    const name = `pod-${this.#pods}`;
    const uid = randomUUID();
    const options = { name, uid, runtimeHandler: handler, shareProcessNamespace };
    const config = podConfig({ ...options, ...(annotations && { annotations }) });
    const podId = await this.cri.runPodSandbox(config, handler);
    return { podId, name, uid, config };
  }

  /** A container of a pod, by default its main one; not started. */
  async createContainer(
    podId: string,
    config: ReturnType<typeof podConfig>,
    // A kubelet hands a pod's annotations to the sandbox alone.
    { image: reference, annotations: _, handler = HANDLER, ...container }: PodRequest,
  ): Promise<string> {
    // imagePullPolicy: IfNotPresent
    const present = await this.cri.imageStatus(reference);
    const imageRef = present?.id ?? (await this.cri.pullImage(reference, config, handler));
    const what = { name: 'main', image: reference, imageRef, ...container };
    mkdirSync(`${config.logDirectory}/${what.name}`, { recursive: true });
    return this.cri.createContainer(podId, containerConfig(config, what), config);
  }

  /** With the pod's cgroup, which a kubelet makes and removes. */
  async removePod({ podId, uid }: Pick<Pod, 'podId' | 'uid'>): Promise<void> {
    await this.cri.stopPodSandbox(podId);
    await this.cri.removePodSandbox(podId);
    for (const controller of readdirSync('/sys/fs/cgroup')) {
      const dir = `/sys/fs/cgroup/${controller}${podCgroup(uid)}`;
      // As a kubelet does: what was killed may still be on its way out.
      if (existsSync(dir)) await until(`${dir} to be empty`, () => removed(dir));
    }
  }

  /** stdout of a command in the container. */
  async exec({ containerId }: Pod, ...command: string[]): Promise<string> {
    const result = await this.cri.execSync(containerId, command);
    if (result.exitCode !== 0)
      throw new Error(`${command.join(' ')} ended with ${result.exitCode}: ${result.stderr}`);
    return result.stdout;
  }

  thaw(args: readonly string[], options: { allowFailure?: boolean } = {}): Promise<RunResult> {
    return run('thaw', ['--address', this.containerd.socket, ...args], { ...options, timeoutMs: 120_000 });
  }

  /** Checkpoints a pod's container to `<repository>:<tag>` of the registry; `name` is what it is called by. */
  async checkpoint(pod: Pod, repository: string, tag = 'warm', name = pod.containerId): Promise<string> {
    const reference = `${this.registry.host}/${repository}:${tag}`;
    const before = this.shimLog().length;
    const done = await this.thaw(['checkpoint', name, '--image', reference, '--json'], {
      allowFailure: true,
    });
    if (done.code !== 0) {
      const said = this.shimLog().slice(before).split('\n');
      const shim = said.filter((line) => line.startsWith('{'));
      throw new Error(`thaw checkpoint ended with ${done.code}\n${done.stderr}\n${shim.join('\n')}`);
    }
    return reference;
  }

  /** Removes an image, and every checkpoint from the node's cache: the node is as if it had never seen it. */
  async forget(reference: string): Promise<void> {
    await this.cri.removeImage(reference);
    await this.thaw(['retry', '--all']);
    const { checkpoints } = JSON.parse((await this.thaw(['status', '--json'])).stdout) as {
      checkpoints: { id: string }[];
    };
    for (const { id } of checkpoints) {
      await until('the cache entry to be free', async () => {
        const done = await this.thaw(['evict', id], { allowFailure: true });
        return done.code === 0;
      });
    }
  }

  /** What the node remembers of the starts of a pod: the last one's reason, and why it was not a restore. */
  async why(pod: string): Promise<{ outcome: string; reasons: string[] }> {
    // A shim writes that down when it has answered.
    const last = await until(`the node to remember how ${pod} started`, async () => {
      const { items } = JSON.parse((await this.thaw(['why', pod, '--json'])).stdout) as {
        items: { reason: string; metadata: { annotations: Record<string, string> } }[];
      };
      return items.at(-1);
    });
    const reasons = JSON.parse(last.metadata.annotations['thaw.dev/reasons'] ?? '[]') as string[];
    return { outcome: last.reason, reasons };
  }

  /** Of a container, while it is there. */
  bundle({ containerId }: Pick<Pod, 'containerId'>): string {
    const state = dirname(this.containerd.socket);
    return `${state}/state/io.containerd.runtime.v2.task/k8s.io/${containerId}`;
  }

  /**
   * What a shim logs of how it started a container. It may come behind the answer to Start: a shim loads what it logs with for
   * its first line, and containerd copies it.
   */
  startOf({ containerId }: Pick<Pod, 'containerId'>): Promise<string> {
    const said = /"msg":"(restored|starting cold|restore failed, starting cold)"/;
    return until(`the shim to log how it started ${containerId}`, () =>
      this.shimLog()
        .split('\n')
        .find((line) => line.includes(containerId) && said.test(line)),
    );
  }

  /** What shims wrote; containerd copies it into its own log, sooner or later. */
  shimLog(): string {
    return readFileSync(this.containerd.log, 'utf8');
  }

  snapshotterLog(): string {
    return readFileSync(`${this.#prefix}.log`, 'utf8');
  }
}

/** False while something is in it. */
function removed(dir: string): boolean {
  try {
    rmdirSync(dir);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
    return false;
  }
}
