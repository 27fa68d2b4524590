import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import {
  type ContainerStatus,
  type CriClient,
  containerConfig,
  type PodSandboxConfig,
  podConfig,
} from '../../test/lib/cri/index.ts';
import { DemoError } from './error.ts';
import { type Answer, ModelServer } from './model.ts';

export interface PodRequest {
  name: string;
  image: string;
  /** What PullImage returned. */
  imageRef: string;
  handler: string;
  question: string;
  timeoutMs: number;
}

/** Seconds since RunPodSandbox was called. */
export interface Timeline {
  sandbox: number;
  created: number;
  started: number;
  answered: number;
}

/** A pod of one model server, started through CRI as a kubelet does. */
export class Pod {
  readonly config: PodSandboxConfig;
  readonly sandboxId: string;
  readonly containerId: string;
  readonly server: ModelServer;
  readonly #cri: CriClient;

  private constructor(
    cri: CriClient,
    config: PodSandboxConfig,
    ids: { sandboxId: string; containerId: string },
    server: ModelServer,
  ) {
    this.#cri = cri;
    this.config = config;
    this.sandboxId = ids.sandboxId;
    this.containerId = ids.containerId;
    this.server = server;
  }

  /** Starts it and waits for the first answer. A pod that fails half-way is removed. */
  static async start(
    cri: CriClient,
    request: PodRequest,
  ): Promise<{ pod: Pod; timeline: Timeline; answer: Answer }> {
    const config = podConfig({
      name: request.name,
      uid: randomUUID(),
      runtimeHandler: request.handler,
      ports: [8080],
    });
    await mkdir(join(config.logDirectory, 'server'), { recursive: true });
    const began = performance.now();
    const elapsed = () => (performance.now() - began) / 1000;
    const sandboxId = await cri.runPodSandbox(config, request.handler);
    try {
      const { network } = await cri.podSandboxStatus(sandboxId);
      const sandbox = elapsed();
      const mounts = await kubeletFiles(config, network.ip);
      const container = containerConfig(config, {
        name: 'server',
        image: request.image,
        imageRef: request.imageRef,
        mounts,
      });
      const containerId = await cri.createContainer(sandboxId, container, config);
      const created = elapsed();
      await cri.startContainer(containerId);
      const started = elapsed();
      const pod = new Pod(cri, config, { sandboxId, containerId }, new ModelServer(network.ip));
      const answer = await pod.server.firstAnswer(request.question, request.timeoutMs, () => pod.#alive());
      return { pod, timeline: { sandbox, created, started, answered: elapsed() }, answer };
    } catch (error) {
      await cri.stopPodSandbox(sandboxId).catch(() => undefined);
      await cri.removePodSandbox(sandboxId).catch(() => undefined);
      throw error;
    }
  }

  status(): Promise<ContainerStatus> {
    return this.#cri.containerStatus(this.containerId);
  }

  /** Lines the server wrote, out of the log file that a kubelet would show ("TIME STREAM F TEXT"). */
  async log(): Promise<string[]> {
    const text = await readFile(join(this.config.logDirectory, 'server/0.log'), 'utf8');
    return text
      .trimEnd()
      .split('\n')
      .map((line) => line.split(' ').slice(3).join(' '));
  }

  async exec(...command: string[]): Promise<{ stdout: string; exitCode: number }> {
    return this.#cri.execSync(this.containerId, command);
  }

  /** Stops the server by its stop signal and says how it ended. */
  async stop(): Promise<ContainerStatus> {
    await this.#cri.stopContainer(this.containerId, 10);
    return this.status();
  }

  async remove(): Promise<void> {
    await this.#cri.stopPodSandbox(this.sandboxId);
    await this.#cri.removePodSandbox(this.sandboxId);
    await rm(this.config.logDirectory, { recursive: true, force: true });
    await rm(kubeletDirectory(this.config), { recursive: true, force: true });
  }

  async #alive(): Promise<void> {
    const { state, exitCode, reason, message } = await this.status();
    if (state === 'CONTAINER_RUNNING') return;
    const last = (await this.log().catch(() => [])).slice(-15).join('\n');
    throw new DemoError(
      Code.failedPrecondition,
      `The server ended before its first answer (exit code ${exitCode} ${reason} ${message}): ${last}`,
    );
  }
}

function kubeletDirectory(config: PodSandboxConfig): string {
  return `/var/lib/kubelet/pods/${config.metadata.uid}`;
}

/** The files that a kubelet itself makes and mounts into every container. */
async function kubeletFiles(
  config: PodSandboxConfig,
  ip: string,
): Promise<{ containerPath: string; hostPath: string; readonly?: boolean }[]> {
  const directory = kubeletDirectory(config);
  const account = join(directory, 'volumes/kubernetes.io~projected/kube-api-access');
  await mkdir(account, { recursive: true });
  const hosts = join(directory, 'etc-hosts');
  const termination = join(directory, 'termination-log');
  await writeFile(hosts, `127.0.0.1\tlocalhost\n${ip}\t${config.hostname}\n`);
  await writeFile(termination, '');
  await writeFile(join(account, 'token'), randomUUID());
  await writeFile(join(account, 'namespace'), config.metadata.namespace);
  return [
    { containerPath: '/etc/hosts', hostPath: hosts },
    { containerPath: '/dev/termination-log', hostPath: termination },
    { containerPath: '/var/run/secrets/kubernetes.io/serviceaccount', hostPath: account, readonly: true },
  ];
}
