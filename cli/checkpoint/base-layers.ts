/**
 * Base layers of a checkpoint image: they are not made here, so they are mounted from the repository that they came
 * from, or sent from wherever they can be had.
 */
import { Readable } from 'node:stream';
import type { LayerFacts } from '../../checkpoint/facts.ts';
import { parseReference, type RegistryClient } from '../../checkpoint/registry/index.ts';
import { Code } from '../../proto/status.ts';
import type { Containerd } from '../containerd/index.ts';
import { CliError } from '../error.ts';
import { inParallel } from '../parallel.ts';
import type { Registries } from '../registry.ts';
import type { Step } from '../ui/progress.ts';

/** A repository that had a blob when it was pulled. */
export interface Origin {
  registry: string;
  repository: string;
}

const ORIGIN_LABEL = 'containerd.distribution.source.';

/** From the labels of a blob and, as the rest of an image came from there too, from its reference. Best first. */
export function originsOf(labels: readonly Readonly<Record<string, string>>[], reference: string): Origin[] {
  const origins: Origin[] = [];
  for (const set of labels)
    for (const [key, value] of Object.entries(set))
      if (key.startsWith(ORIGIN_LABEL))
        for (const repository of value.split(','))
          if (repository !== '') origins.push({ registry: key.slice(ORIGIN_LABEL.length), repository });
  try {
    const { registry, repository } = parseReference(reference);
    origins.push({ registry, repository });
  } catch {
    // containerd allows names that are no references; such an image was imported, not pulled.
  }
  const seen = new Set<string>();
  return origins.filter(({ registry, repository }) => {
    const key = `${registry}/${repository}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

export interface PushBaseOptions {
  store: Containerd;
  registries: Registries;
  target: Origin;
  client: RegistryClient;
  /** Name and configuration of the image that the container runs from. */
  image: { reference: string; configDigest: string };
  layers: readonly LayerFacts[];
  step: Step;
  signal: AbortSignal;
}

const PARALLEL = 4;

/** Returns how many bytes had to be sent. */
export async function pushBaseLayers(options: PushBaseOptions): Promise<number> {
  const { store, client, target, image, step } = options;
  const imageLabels = (await store.content.find(image.configDigest))?.labels ?? {};
  const unique = new Map(options.layers.map((layer) => [layer.digest, layer]));
  const total = [...unique.values()].reduce((sum, { size }) => sum + size, 0);
  const sent = new Map<string, number>();
  let settled = 0;
  await inParallel(unique.values(), PARALLEL, options.signal, async (layer, signal) => {
    const local = await store.content.find(layer.digest);
    const origins = originsOf([local?.labels ?? {}, imageLabels], image.reference);
    const source = { digest: layer.digest, size: layer.size };
    const mountFrom = origins.find(
      ({ registry, repository }) => registry === target.registry && repository !== target.repository,
    )?.repository;
    const outcome = await client.pushBlob(
      target.repository,
      {
        ...source,
        open: () =>
          Readable.from(
            local
              ? store.within({ signal }).content.read(layer.digest)
              : readFromOrigin(options.registries, origins, layer, target, signal),
          ),
      },
      {
        mountFrom,
        signal,
        onProgress: (bytes) => {
          sent.set(layer.digest, bytes);
          step.update(settled + sum(sent.values()), total);
        },
      },
    );
    if (outcome !== 'uploaded') sent.delete(layer.digest);
    settled += outcome === 'uploaded' ? 0 : layer.size;
    step.update(settled + sum(sent.values()), total);
  });
  return sum(sent.values());
}

async function* readFromOrigin(
  registries: Registries,
  origins: readonly Origin[],
  layer: LayerFacts,
  target: Origin,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let failure: unknown;
  let from: { client: RegistryClient; repository: string } | undefined;
  for (const { registry, repository } of origins) {
    if (registry === target.registry && repository === target.repository) continue;
    try {
      const client = registries.client(registry);
      if ((await client.headBlob(repository, layer.digest, { signal })) !== layer.size) continue;
      from = { client, repository };
      break;
    } catch (error) {
      if (signal.aborted) throw error;
      failure ??= error;
    }
  }
  if (from) {
    yield* from.client.readBlob(from.repository, layer, { signal });
    return;
  }
  throw new CliError(
    Code.notFound,
    `Cannot find the base layer ${layer.digest}: neither containerd's content store nor a registry has it; pull the base image again`,
    { cause: failure },
  );
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
