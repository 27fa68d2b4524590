import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CriClient } from '../../test/lib/cri/index.ts';
import { type BuiltImage, buildImage } from './image/build.ts';
import { dropRepository, type Services, startServices } from './node/services.ts';
import { type ReplicasSummary, showReplicas } from './replicas.ts';
import { megabytes, type Steps } from './report.ts';
import { type RestoreSummary, showRestore } from './restore.ts';
import { Stage } from './stage.ts';
import { findVersions, untested } from './versions.ts';

export interface DemoOptions {
  small: boolean;
  /** Several replicas from one checkpoint, instead of one restore looked at closely. */
  pods: boolean;
  /** What is kept from run to run: registry data, facts, logs. */
  cache: string;
  /** Debian root of the model image. */
  root: string;
}

/** What did not hold is in `complaints`; what could not be done at all is thrown. */
export async function runDemo(
  options: DemoOptions,
  steps: Steps,
): Promise<{ summary: RestoreSummary | ReplicasSummary; complaints: string[] }> {
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
    const stage = new Stage(services, options, steps, repository, base);
    try {
      const summary = await (options.pods ? showReplicas(stage) : showRestore(stage));
      return { summary, complaints: stage.complaints };
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
  // Replicas share the node's cores, as pods that ask for one each do.
  const threads = options.pods ? '1' : '2';
  const script = options.small ? 'small-server.py' : 'server.py';
  return buildImage(services.images, {
    repository,
    tag: 'base',
    root: options.root,
    files: {
      'srv/server.py': join(import.meta.dirname, script),
      'srv/thaw.py': join(import.meta.dirname, '../../clients/python/thaw.py'),
    },
    settings: {
      env: {
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        LANG: 'C.UTF-8',
        OMP_NUM_THREADS: threads,
        OPENBLAS_NUM_THREADS: threads,
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
