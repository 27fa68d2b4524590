import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseReference } from '../../checkpoint/registry/index.ts';
import { type CriClient, podConfig } from '../../test/lib/cri/index.ts';
import { table } from '../table.ts';
import { checkRestored } from './check.ts';
import { cachedCheckpoints, checkpoint, evict } from './cli.ts';
import { type BuiltImage, buildImage } from './image/build.ts';
import { type Holdings, holdings, waitForHoldings } from './node/holdings.ts';
import { dropRepository, type Services, sentSince, startServices } from './node/services.ts';
import { Pod, type PodRequest } from './pod.ts';
import { megabytes, type Steps, seconds } from './report.ts';
import { findVersions, untested } from './versions.ts';

export interface DemoOptions {
  small: boolean;
  /** What is kept from run to run: registry data, facts, logs. */
  cache: string;
  /** Debian root of the model image. */
  root: string;
}

export interface Summary {
  cold_s: number;
  restore_s: number;
  answers_equal: boolean;
  token_kept: boolean;
  image_bytes: number;
  fetched_bytes: number;
}

/** What did not hold is in `complaints`; what could not be done at all is thrown. */
export async function runDemo(
  options: DemoOptions,
  steps: Steps,
): Promise<{ summary: Summary; complaints: string[] }> {
  const logs = join(options.cache, 'logs');
  const registry = join(options.cache, 'registry');
  await mkdir(logs, { recursive: true });
  await printVersions(options, steps);
  const repository = `thaw-demo/${options.small ? 'small' : 'model'}`;
  await dropRepository(registry, `${repository}-warm`);
  const services = await steps.step('Start docker-registry, thaw-snapshotter, containerd', () =>
    startServices(registry, logs),
  );
  try {
    const base = await steps.step(
      'Build the image and push it',
      () => buildModelImage(services, options, repository),
      (image) => `${megabytes(image.bytes)}, unpacked ${megabytes(image.unpackedBytes)}`,
    );
    const demo = new Demo(services, options, steps, repository, base);
    try {
      return await demo.run();
    } finally {
      await removePods(services.cri);
    }
  } finally {
    await services.stop();
  }
}

/** Whatever a run that failed has left: containerd cannot be taken away below a running container. */
async function removePods(cri: CriClient): Promise<void> {
  for (const { id } of await cri.listPodSandboxes()) {
    await cri.stopPodSandbox(id);
    await cri.removePodSandbox(id);
  }
}

function buildModelImage(services: Services, options: DemoOptions, repository: string): Promise<BuiltImage> {
  const script = options.small ? 'small-server.py' : 'server.py';
  return buildImage(services.images, {
    repository,
    tag: 'base',
    root: options.root,
    files: { 'srv/server.py': join(import.meta.dirname, script) },
    settings: {
      env: {
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        LANG: 'C.UTF-8',
        OMP_NUM_THREADS: '2',
        OPENBLAS_NUM_THREADS: '2',
        // Threads that spin while they wait take the cores of whoever else is on the node.
        OMP_WAIT_POLICY: 'PASSIVE',
        OPENBLAS_THREAD_TIMEOUT: '4',
      },
      cmd: ['python3', '/srv/server.py'],
      port: 8080,
    },
    cache: options.cache,
  });
}

async function printVersions(options: DemoOptions, steps: Steps): Promise<void> {
  const versions = await findVersions(options.root);
  steps.line(
    `Versions: ${Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', ')}`,
  );
  for (const version of untested(versions)) steps.line(`warning: the demo was not tested with ${version}`);
  await writeFile(join(options.cache, 'versions.json'), `${JSON.stringify(versions, undefined, 2)}\n`);
}

const handler = 'thaw';
const question = 'What does a warm start keep?';
const startTimeoutMs = 180_000;

class Demo {
  readonly #services: Services;
  readonly #options: DemoOptions;
  readonly #steps: Steps;
  readonly #base: BuiltImage;
  /** Names of the base image and of the checkpoint image. */
  readonly #cold: string;
  readonly #warm: string;
  readonly #complaints: string[] = [];

  constructor(services: Services, options: DemoOptions, steps: Steps, repository: string, base: BuiltImage) {
    this.#services = services;
    this.#options = options;
    this.#steps = steps;
    this.#base = base;
    this.#cold = `${services.registry.host}/${repository}:base`;
    this.#warm = `${services.registry.host}/${repository}-warm:1`;
  }

  get #cri(): CriClient {
    return this.#services.cri;
  }

  async run(): Promise<{ summary: Summary; complaints: string[] }> {
    const steps = this.#steps;
    await this.#pull(this.#services.pause);
    const before = await holdings(this.#services.containerd);

    const coldPull = await this.#timedPull('Pull the base image', this.#cold);
    const cold = await this.#start('Start it cold', 'cold', this.#cold, coldPull.imageRef);
    const coldSent = await sentSince(this.#services.registry, coldPull.mark);
    const token = randomBytes(12).toString('hex');
    await cold.pod.server.setToken(token);
    const asked = await cold.pod.server.ask(question);
    this.#expect(asked.text === cold.answer.text, 'The same server answered one question in two ways');

    const { load, result: saved } = await steps.talkingStep(
      'Checkpoint it while it serves, push',
      () =>
        cold.pod.server.serveWhile(question, () =>
          checkpoint(this.#services.containerd, cold.pod.containerId, this.#warm),
        ),
      ({ load, result }) =>
        `${load.answers} answers meanwhile; it stood still for ${seconds(result.pausedMs / 1000)}`,
    );
    for (const { label, ms } of saved.steps)
      steps.line(`    ${label.padEnd(58)} ${seconds(ms / 1000).padStart(9)}`);
    this.#expect(
      load.failures.length === 0,
      `While it was saved, the source did not answer: ${load.failures[0]}`,
    );
    this.#expect(
      [...load.texts].every((text) => text === cold.answer.text),
      'While it was saved, the source answered differently',
    );
    const after = await cold.pod.server.ask(question);
    this.#expect(after.text === cold.answer.text, 'The source answered differently after the checkpoint');
    this.#expect((await cold.pod.server.token()) === token, 'The source lost its token');
    const imageBytes = await this.#imageBytes(this.#warm);

    await steps.step('Remove the pod, the images, snapshots and caches; check', () =>
      this.#clean(cold.pod, before),
    );

    const warmPull = await this.#timedPull('Pull the checkpoint image', this.#warm);
    const restored = await this.#start('Start it: restore', 'restored', this.#warm, warmPull.imageRef);
    const tokenKept = (await restored.pod.server.token()) === token;
    const answersEqual = restored.answer.text === cold.answer.text;
    this.#expect(answersEqual, `The answers differ: ${cold.answer.text} and ${restored.answer.text}`);
    this.#expect(tokenKept, 'The token is gone');
    await steps.step('Check exec, logs, PID 1, kill and exit code', async () => {
      this.#complaints.push(
        ...(await checkRestored(restored.pod, restored.answer, { before: asked, after })),
      );
    });
    await restored.pod.remove();
    const fetched = await sentSince(this.#services.registry, warmPull.mark);

    const again = await this.#start('Start a second one', 'second', this.#warm, warmPull.imageRef);
    this.#expect(again.answer.text === cold.answer.text, 'The second replica answered differently');
    this.#expect((await again.pod.server.token()) === token, 'The second replica lost the token');
    await again.pod.remove();

    steps.line('');
    steps.line(
      table([
        ['', 'cold', 'restore', 'restore, again'],
        ['pull', seconds(coldPull.seconds), seconds(warmPull.seconds), ''],
        ...(['sandbox', 'created', 'started', 'answered'] as const).map((part) => [
          `RunPodSandbox to ${partNames[part]}`,
          seconds(cold.timeline[part]),
          seconds(restored.timeline[part]),
          seconds(again.timeline[part]),
        ]),
        [
          'pull and start to first answer',
          seconds(coldPull.seconds + cold.timeline.answered),
          seconds(warmPull.seconds + restored.timeline.answered),
          '',
        ],
        ['image in the registry', megabytes(this.#base.bytes), megabytes(imageBytes), ''],
        ['of it the checkpoint', '', megabytes(saved.storedBytes), ''],
        ['the checkpoint, decoded', '', megabytes(saved.decodedBytes), ''],
        ['sent by the registry', megabytes(coldSent), megabytes(fetched), ''],
      ]),
    );
    steps.line('');
    steps.line(`answers equal: ${answersEqual ? 'yes' : 'NO'} (${cold.answer.digest})`);
    steps.line(`token kept in memory: ${tokenKept ? 'yes' : 'NO'} (${token})`);
    return {
      summary: {
        cold_s: round(cold.timeline.answered),
        restore_s: round(restored.timeline.answered),
        answers_equal: answersEqual,
        token_kept: tokenKept,
        image_bytes: imageBytes,
        fetched_bytes: fetched,
      },
      complaints: this.#complaints,
    };
  }

  #expect(held: boolean, complaint: string): void {
    if (!held) this.#complaints.push(complaint);
  }

  #pull(image: string): Promise<string> {
    const pod = podConfig({ name: 'pull', uid: 'pull', runtimeHandler: handler });
    return this.#cri.pullImage(image, pod, handler);
  }

  async #timedPull(
    title: string,
    image: string,
  ): Promise<{ imageRef: string; seconds: number; mark: number }> {
    const mark = (await this.#services.registry.settled()).length;
    const began = performance.now();
    const imageRef = await this.#steps.step(title, () => this.#pull(image));
    const taken = (performance.now() - began) / 1000;
    return { imageRef, seconds: taken, mark };
  }

  #start(title: string, name: string, image: string, imageRef: string) {
    const request: PodRequest = {
      name: `${this.#options.small ? 'small' : 'model'}-${name}`,
      image,
      imageRef,
      handler,
      question,
      timeoutMs: startTimeoutMs,
    };
    return this.#steps.step(
      `${title}, ask the question`,
      () => Pod.start(this.#cri, request),
      ({ timeline }) => `first answer after ${seconds(timeline.answered)}`,
    );
  }

  /** Manifest, configuration and all layers of an image, as stored in the registry. */
  async #imageBytes(image: string): Promise<number> {
    const platform = { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' };
    const { manifest, manifestBytes } = await this.#services.images.image(parseReference(image), platform, {
      signal: AbortSignal.timeout(30_000),
    });
    return [manifest.config, ...manifest.layers].reduce((sum, part) => sum + part.size, manifestBytes.length);
  }

  async #clean(pod: Pod, before: Holdings): Promise<void> {
    await pod.remove();
    for (const image of await this.#cri.listImages())
      if (!image.repoTags.includes(this.#services.pause)) await this.#cri.removeImage(image.id);
    for (const id of await cachedCheckpoints()) await evict(id);
    await waitForHoldings(this.#services.containerd, before);
  }
}

const partNames = {
  sandbox: 'network ready',
  created: 'container created',
  started: 'container started',
  answered: 'first answer',
} as const;

const round = (value: number): number => Math.round(value * 1000) / 1000;
