import { parseReference } from '../../checkpoint/registry/index.ts';
import type { CriClient } from '../../test/lib/cri/index.ts';
import { podConfig } from '../../test/lib/cri/index.ts';
import { cachedCheckpoints, evict } from './cli.ts';
import type { DemoOptions } from './demo.ts';
import type { BuiltImage } from './image/build.ts';
import { type Holdings, waitForHoldings } from './node/holdings.ts';
import { type Services, sentSince } from './node/services.ts';
import { Pod, type PodRequest } from './pod.ts';
import type { Steps } from './report.ts';

const handler = 'thaw';
export const question = 'What does a warm start keep?';
/** Four servers that start cold at once share the cores of one. */
const startTimeoutMs = 600_000;

export interface Pulled {
  imageRef: string;
  seconds: number;
  /** How many answers the registry had given before. */
  mark: number;
}

/** What both demos do with the node, and what did not hold. */
export class Stage {
  readonly services: Services;
  readonly steps: Steps;
  readonly base: BuiltImage;
  /** Names of the base image and of the checkpoint image. */
  readonly cold: string;
  readonly warm: string;
  readonly complaints: string[] = [];
  readonly #options: DemoOptions;

  constructor(services: Services, options: DemoOptions, steps: Steps, repository: string, base: BuiltImage) {
    this.services = services;
    this.#options = options;
    this.steps = steps;
    this.base = base;
    this.cold = `${services.registry.host}/${repository}:base`;
    this.warm = `${services.registry.host}/${repository}-warm:1`;
  }

  get cri(): CriClient {
    return this.services.cri;
  }

  expect(held: boolean, complaint: string): void {
    if (!held) this.complaints.push(complaint);
  }

  pull(image: string): Promise<string> {
    const pod = podConfig({ name: 'pull', uid: 'pull', runtimeHandler: handler });
    return this.cri.pullImage(image, pod, handler);
  }

  async timedPull(title: string, image: string): Promise<Pulled> {
    const mark = (await this.services.registry.settled()).length;
    const began = performance.now();
    const imageRef = await this.steps.step(title, () => this.pull(image));
    const seconds = (performance.now() - began) / 1000;
    return { imageRef, seconds, mark };
  }

  /** Until its first answer. */
  start(name: string, image: string, imageRef: string) {
    const request: PodRequest = {
      name: `${this.#options.small ? 'small' : 'model'}-${name}`,
      image,
      imageRef,
      handler,
      question,
      timeoutMs: startTimeoutMs,
    };
    return Pod.start(this.cri, request);
  }

  /** Body bytes that the registry has sent since. */
  sentSince({ mark }: Pulled): Promise<number> {
    return sentSince(this.services.registry, mark);
  }

  /** Manifest, configuration and all layers of an image, as stored in the registry. */
  async imageBytes(image: string): Promise<number> {
    const platform = { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' };
    const { manifest, manifestBytes } = await this.services.images.image(parseReference(image), platform, {
      signal: AbortSignal.timeout(30_000),
    });
    return [manifest.config, ...manifest.layers].reduce((sum, part) => sum + part.size, manifestBytes.length);
  }

  /** The node is as if it had never seen pods, images and checkpoints. */
  async clean(pods: readonly Pod[], before: Holdings): Promise<void> {
    for (const pod of pods) await pod.remove();
    for (const image of await this.cri.listImages())
      if (!image.repoTags.includes(this.services.pause)) await this.cri.removeImage(image.id);
    for (const id of await cachedCheckpoints()) await evict(id);
    await waitForHoldings(this.services.containerd, before);
  }
}

export const round = (value: number): number => Math.round(value * 1000) / 1000;
