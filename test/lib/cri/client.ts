import type {
  Container,
  ContainerConfig,
  ContainerFilter,
  ContainerStatus,
  ExecResult,
  Image,
  PodSandbox,
  PodSandboxConfig,
  PodSandboxStatus,
  RuntimeStatus,
  RuntimeVersion,
} from './messages.ts';
import { CriTransport } from './transport.ts';

/** The kubelet's own limit for calls of the runtime service (its --runtime-request-timeout). */
const callTimeoutMs = 120_000;
/** The kubelet sets no limit on a pull; here a pull that hangs must end. */
const pullTimeoutMs = 900_000;

/** On the wire 64-bit values arrive as decimal strings; these are their keys in the messages used here. */
type Raw<T> = { [K in keyof T]: T[K] extends bigint ? string : T[K] };

/** Speaks CRI to containerd as a kubelet does. Every call has a deadline and throws CriError. */
export class CriClient {
  readonly #transport: CriTransport;

  constructor(socket: string) {
    this.#transport = new CriTransport(socket);
  }

  close(): void {
    this.#transport.close();
  }

  async version(): Promise<RuntimeVersion> {
    return this.#runtime<RuntimeVersion>('Version', { version: 'v1' }, 10_000);
  }

  async status(): Promise<RuntimeStatus> {
    const { status, runtimeHandlers } = await this.#runtime<{
      status: { conditions: RuntimeStatus['conditions'] } | null;
      runtimeHandlers: { name: string }[];
    }>('Status', {}, 10_000);
    return { conditions: status?.conditions ?? [], handlers: runtimeHandlers.map((handler) => handler.name) };
  }

  /** Starts a pod's sandbox: its namespaces, its network, its pause container. */
  async runPodSandbox(config: PodSandboxConfig, runtimeHandler: string): Promise<string> {
    const answer = await this.#runtime<{ podSandboxId: string }>('RunPodSandbox', { config, runtimeHandler });
    return answer.podSandboxId;
  }

  async stopPodSandbox(podSandboxId: string): Promise<void> {
    await this.#runtime('StopPodSandbox', { podSandboxId });
  }

  async removePodSandbox(podSandboxId: string): Promise<void> {
    await this.#runtime('RemovePodSandbox', { podSandboxId });
  }

  async podSandboxStatus(podSandboxId: string): Promise<PodSandboxStatus> {
    const { status } = await this.#runtime<{ status: Raw<PodSandboxStatus> }>('PodSandboxStatus', {
      podSandboxId,
    });
    return { ...status, createdAt: BigInt(status.createdAt) };
  }

  async listPodSandboxes(): Promise<PodSandbox[]> {
    return (await this.#runtime<{ items: PodSandbox[] }>('ListPodSandbox', {})).items;
  }

  /** @param sandboxConfig the configuration the sandbox was started with, as the kubelet repeats it. */
  async createContainer(
    podSandboxId: string,
    config: ContainerConfig,
    sandboxConfig: PodSandboxConfig,
  ): Promise<string> {
    const request = { podSandboxId, config, sandboxConfig };
    return (await this.#runtime<{ containerId: string }>('CreateContainer', request)).containerId;
  }

  async startContainer(containerId: string): Promise<void> {
    await this.#runtime('StartContainer', { containerId });
  }

  /** @param graceSeconds time between the image's stop signal and SIGKILL. */
  async stopContainer(containerId: string, graceSeconds: number): Promise<void> {
    const request = { containerId, timeout: BigInt(graceSeconds) };
    await this.#runtime('StopContainer', request, callTimeoutMs + graceSeconds * 1000);
  }

  async removeContainer(containerId: string): Promise<void> {
    await this.#runtime('RemoveContainer', { containerId });
  }

  async containerStatus(containerId: string): Promise<ContainerStatus> {
    const { status } = await this.#runtime<{ status: Raw<ContainerStatus> }>('ContainerStatus', {
      containerId,
    });
    return {
      ...status,
      createdAt: BigInt(status.createdAt),
      startedAt: BigInt(status.startedAt),
      finishedAt: BigInt(status.finishedAt),
    };
  }

  async listContainers(filter: ContainerFilter = {}): Promise<Container[]> {
    const { containers } = await this.#runtime<{ containers: Raw<Container>[] }>('ListContainers', {
      filter,
    });
    return containers.map((container) => ({ ...container, createdAt: BigInt(container.createdAt) }));
  }

  /** Saves a running container, which goes on, as an archive at this path of the node. */
  async checkpointContainer(containerId: string, location: string): Promise<void> {
    const timeout = BigInt(callTimeoutMs / 1000);
    await this.#runtime('CheckpointContainer', { containerId, location, timeout });
  }

  /** Runs a command in a container and waits for its end. Its exit code is an answer, not an error. */
  async execSync(containerId: string, cmd: readonly string[], timeoutSeconds = 30): Promise<ExecResult> {
    const answer = await this.#runtime<{ stdout: Buffer; stderr: Buffer; exitCode: number }>(
      'ExecSync',
      { containerId, cmd, timeout: BigInt(timeoutSeconds) },
      (timeoutSeconds + 10) * 1000,
    );
    return {
      stdout: answer.stdout.toString(),
      stderr: answer.stderr.toString(),
      exitCode: answer.exitCode,
    };
  }

  /**
   * Pulls an image for pods of a runtime handler. containerd chooses the snapshotter to unpack with by the handler,
   * which it reads from the sandbox's annotation `io.containerd.cri.runtime-handler`.
   * @param auth of the pod's imagePullSecrets.
   * @returns the image's ID, which the kubelet puts into ContainerConfig.image.
   */
  async pullImage(
    image: string,
    sandboxConfig: PodSandboxConfig,
    runtimeHandler: string,
    auth?: { username: string; password: string },
  ): Promise<string> {
    const request = { image: { image, runtimeHandler }, sandboxConfig, ...(auth ? { auth } : {}) };
    return (await this.#image<{ imageRef: string }>('PullImage', request, pullTimeoutMs)).imageRef;
  }

  /** Undefined if the image is not on the node. */
  async imageStatus(image: string): Promise<Image | undefined> {
    const answer = await this.#image<{ image: Raw<Image> | null }>('ImageStatus', { image: { image } });
    return answer.image === null ? undefined : { ...answer.image, size: BigInt(answer.image.size) };
  }

  async listImages(): Promise<Image[]> {
    const { images } = await this.#image<{ images: Raw<Image>[] }>('ListImages', {});
    return images.map((image) => ({ ...image, size: BigInt(image.size) }));
  }

  /** Removes the image with all its names. An unknown image is no error. */
  async removeImage(image: string): Promise<void> {
    await this.#image('RemoveImage', { image: { image } });
  }

  #runtime<Response>(method: string, request: object, timeoutMs = callTimeoutMs): Promise<Response> {
    return this.#transport.call<Response>('RuntimeService', method, request, timeoutMs);
  }

  #image<Response>(method: string, request: object, timeoutMs = callTimeoutMs): Promise<Response> {
    return this.#transport.call<Response>('ImageService', method, request, timeoutMs);
  }
}
