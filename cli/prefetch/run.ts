import { INDEX_ANNOTATION, parseIndexAnnotation } from '../../checkpoint/annotation.ts';
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
  const checkpoint = checkpointOf(await pull(reference, options, context));
  if (checkpoint === undefined) {
    if (options.json) context.print(toJson({ image: reference, checkpoint: null }));
    else context.print(`${reference} is on this node; it has no checkpoint`);
    return;
  }
  const { storedBytes, fetchedBytes, localBytes } = await withDaemon(
    options.socket,
    context.signal,
    (daemon) => bring(daemon, checkpoint, reference, context),
  );
  if (options.json)
    context.print(toJson({ image: reference, checkpoint, storedBytes, fetchedBytes, localBytes }));
  else
    context.print(
      `${reference} is on this node: checkpoint ${shortDigest(checkpoint)}, ${formatBytes(storedBytes)}, ${formatBytes(fetchedBytes)} of it fetched`,
    );
}

/** Index digest of the checkpoint that an image begins with: its name on a node. */
export function checkpointOf({ layers }: Pick<Manifest, 'layers'>): string | undefined {
  const annotation = layers[0]?.annotations?.[INDEX_ANNOTATION];
  return annotation === undefined ? undefined : parseIndexAnnotation(annotation).digest;
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

async function bring(
  daemon: Daemon,
  id: string,
  reference: string,
  { progress, signal }: Context,
): Promise<{ storedBytes: bigint; fetchedBytes: bigint; localBytes: bigint }> {
  const step = progress.step('Fetching the checkpoint');
  let over = false;
  const done = daemon.prefetch(id).finally(() => {
    over = true;
  });
  const shown = show(daemon, id, step, () => over || signal.aborted);
  try {
    const counts = await done;
    const storedBytes = (await find(daemon, id))?.storedBytes ?? 0n;
    step.finish(formatBytes(storedBytes));
    return { storedBytes, ...counts };
  } catch (error) {
    if (describeError(error).code !== Code.notFound) throw error;
    throw new CliError(
      Code.failedPrecondition,
      `Cannot prefetch ${reference}: containerd pulled it without asking thaw for its checkpoint layers; 'thaw doctor' says what is wrong with its configuration`,
      { cause: error },
    );
  } finally {
    progress.abandon();
    await shown;
  }
}

/** The daemon tells progress only in its list. Never rejects: what is wrong is the answer of Prefetch. */
async function show(daemon: Daemon, id: string, step: Step, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const status = await find(daemon, id).catch(() => undefined);
    if (status) step.update(Number(status.presentBytes), Number(status.storedBytes));
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function find(daemon: Daemon, id: string) {
  return (await daemon.list()).find((checkpoint) => checkpoint.id === id);
}
