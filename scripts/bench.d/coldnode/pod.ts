/** A pod on a node that does not have its image: the steps of a kubelet, one by one. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { containerConfig, type PodSandboxConfig, podConfig } from '../../../test/lib/cri/index.ts';
import type { KubeletNode } from '../../../test/lib/kubelet-node.ts';

export interface ColdContainer {
  image: string;
  /** What PullImage returned. */
  imageRef: string;
  command: string[];
}

export class ColdPod {
  readonly #node: KubeletNode;
  readonly #config: PodSandboxConfig;
  readonly #uid: string;
  readonly #id: string;
  readonly ip: string;

  private constructor(node: KubeletNode, config: PodSandboxConfig, uid: string, id: string, ip: string) {
    this.#node = node;
    this.#config = config;
    this.#uid = uid;
    this.#id = id;
    this.ip = ip;
  }

  /**
   * The sandbox alone, which a kubelet makes before it pulls. Its container must be restored, unless `cold` says that it
   * is not a checkpoint's: another start would be a number without a meaning.
   */
  static async start(node: KubeletNode, handler: string, { cold = false } = {}): Promise<ColdPod> {
    const uid = randomUUID();
    const annotations: Record<string, string> = cold ? {} : { 'thaw.dev/restore': 'require' };
    const config = podConfig({ name: `cold-${uid.slice(0, 8)}`, uid, runtimeHandler: handler, annotations });
    mkdirSync(`${config.logDirectory}/main`, { recursive: true });
    const id = await node.cri.runPodSandbox(config, handler);
    const { network } = await node.cri.podSandboxStatus(id);
    // Without its own name there, a server that asks who it is waits ten seconds for a name server that is not there.
    writeFileSync(hostsFile(config), `127.0.0.1\tlocalhost\n${network.ip}\t${config.hostname}\n`);
    return new ColdPod(node, config, uid, id, network.ip);
  }

  pull(image: string, handler: string): Promise<string> {
    return this.#node.cri.pullImage(image, this.#config, handler);
  }

  /** The id of a container that has not been started. */
  create({ image, imageRef, command }: ColdContainer): Promise<string> {
    const mounts = [{ containerPath: '/etc/hosts', hostPath: hostsFile(this.#config) }];
    const options = containerConfig(this.#config, { name: 'main', image, imageRef, command, mounts });
    options.annotations = { ...options.annotations, ...this.#config.annotations };
    return this.#node.cri.createContainer(this.#id, options, this.#config);
  }

  async remove(): Promise<void> {
    await this.#node.removePod({ podId: this.#id, uid: this.#uid });
    rmSync(this.#config.logDirectory, { recursive: true, force: true });
  }
}

/** A kubelet makes one for each pod. */
function hostsFile({ logDirectory }: PodSandboxConfig): string {
  return `${logDirectory}/etc-hosts`;
}
