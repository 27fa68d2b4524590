import { INDEX_ANNOTATION, parseIndexAnnotation } from '../../checkpoint/annotation.ts';
import { LAYER_ANNOTATION, parseLayerAnnotation } from '../../checkpoint/lazy/index-layer.ts';
import { formatReference, type Manifest, parseReference } from '../../checkpoint/registry/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { PrefetchOptions } from '../commands/handlers.ts';
import { createContainerd } from '../containerd/index.ts';
import { manifestOf } from '../containerd/manifest.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { type Daemon, withDaemon } from '../node/daemon.ts';
import { Registries } from '../registry.ts';
import { formatBytes, shortDigest } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import type { Step } from '../ui/progress.ts';

const POLL_MS = 250;

/** `thaw prefetch`. */
export async function runPrefetch(options: PrefetchOptions, context: Context): Promise<void> {
  const reference = formatReference(parseReference(options.reference));
  // Before a pull that may take long: without the daemon nothing is prefetched.
  await withDaemon(options.socket, context.signal, (daemon) => daemon.list());
  const manifest = await pull(reference, options, context);
  const checkpoint = checkpointOf(manifest);
  const layers = lazyLayersOf(manifest);
  const ids = [...(checkpoint === undefined ? [] : [checkpoint]), ...layers];
  if (ids.length === 0) {
    if (options.json) context.print(toJson({ image: reference, checkpoint: null, layers }));
    else context.print(`${reference} is on this node; it has no checkpoint`);
    return;
  }
  const title = checkpoint === undefined ? 'Fetching its layers' : 'Fetching the checkpoint';
  const sums = await withDaemon(options.socket, context.signal, (daemon) =>
    bringAll(daemon, ids, title, reference, context),
  );
  if (options.json)
    context.print(toJson({ image: reference, checkpoint: checkpoint ?? null, layers, ...sums }));
  else
    context.print(
      `${reference} is on this node: ${describe(checkpoint, layers)}, ${formatBytes(sums.storedBytes)}, ${formatBytes(sums.fetchedBytes)} of it fetched`,
    );
}

function describe(checkpoint: string | undefined, layers: readonly string[]): string {
  return [
    ...(checkpoint === undefined ? [] : [`checkpoint ${shortDigest(checkpoint)}`]),
    ...(layers.length === 0 ? [] : [`${layers.length} lazy layers`]),
  ].join(' and ');
}

/** Index digest of the checkpoint that an image begins with: its name on a node. */
export function checkpointOf({ layers }: Pick<Manifest, 'layers'>): string | undefined {
  const annotation = layers[0]?.annotations?.[INDEX_ANNOTATION];
  return annotation === undefined ? undefined : parseIndexAnnotation(annotation).digest;
}

/** Index digests of an image's lazy layers; the layer that holds the indexes is none. */
export function lazyLayersOf({ layers }: Pick<Manifest, 'layers'>): string[] {
  const locations = layers.flatMap(({ annotations }) => {
    const annotation = annotations?.[LAYER_ANNOTATION];
    return annotation === undefined ? [] : [parseLayerAnnotation(annotation)];
  });
  return locations.flatMap(({ blob, digest }) => (blob === digest ? [] : [digest]));
}

async function pull(reference: string, options: PrefetchOptions, context: Context): Promise<Manifest> {
  const containerd = await createContainerd(options);
  const registries = new Registries({ plainHttp: false }, context.env);
  const step = context.progress.step('Pulling the image');
  try {
    const store = containerd.within({ namespace: options.namespace, signal: context.signal });
    const { runtimeHandler } = options;
    const credentials = await registries.credentials(parseReference(reference));
    const id = await store.cri.pull({ image: reference, runtimeHandler, credentials });
    step.finish();
    return await manifestOf(store, id);
  } finally {
    context.progress.abandon();
    await registries.close();
    containerd.close();
  }
}

interface Brought {
  storedBytes: bigint;
  fetchedBytes: bigint;
  localBytes: bigint;
}

/** Of all of them together. */
async function bringAll(
  daemon: Daemon,
  ids: readonly string[],
  title: string,
  reference: string,
  { progress, signal }: Context,
): Promise<Brought> {
  const step = progress.step(title);
  let over = false;
  const done = Promise.all(ids.map((id) => daemon.prefetch(id))).finally(() => {
    over = true;
  });
  const shown = show(daemon, ids, step, () => over || signal.aborted);
  try {
    const counts = await done;
    const storedBytes = sum((await find(daemon, ids)).map((status) => status.storedBytes));
    step.finish(formatBytes(storedBytes));
    return {
      storedBytes,
      fetchedBytes: sum(counts.map(({ fetchedBytes }) => fetchedBytes)),
      localBytes: sum(counts.map(({ localBytes }) => localBytes)),
    };
  } catch (error) {
    if (describeError(error).code !== Code.notFound) throw error;
    throw new CliError(
      Code.failedPrecondition,
      `Cannot prefetch ${reference}: containerd pulled it without asking thaw for its layers; 'thaw doctor' says what is wrong with its configuration`,
      { cause: error },
    );
  } finally {
    progress.abandon();
    await shown;
  }
}

/** The daemon tells progress only in its list. Never rejects: what is wrong is the answer of Prefetch. */
async function show(
  daemon: Daemon,
  ids: readonly string[],
  step: Step,
  isOver: () => boolean,
): Promise<void> {
  while (!isOver()) {
    const found = await find(daemon, ids).catch(() => []);
    if (found.length > 0)
      step.update(
        Number(sum(found.map(({ presentBytes }) => presentBytes))),
        Number(sum(found.map(({ storedBytes }) => storedBytes))),
      );
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function find(daemon: Daemon, ids: readonly string[]) {
  const { checkpoints, layers } = await daemon.listAll();
  return [...checkpoints, ...layers].filter(({ id }) => ids.includes(id));
}

function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n);
}
