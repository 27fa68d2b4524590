import { formatReference, parseReference } from '../../checkpoint/registry/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import { Cleanup } from '../cleanup.ts';
import type { FetchOptions } from '../commands/handlers.ts';
import { type Containerd, createContainerd, type Image } from '../containerd/index.ts';
import type { Context } from '../context.ts';
import { Registries } from '../registry.ts';
import { formatBytes, shortDigest } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { completeImage } from './complete.ts';

const LEASE_MS = 24 * 3_600_000;

/** `thaw fetch`. */
export async function runFetch(options: FetchOptions, context: Context): Promise<void> {
  const cleanup = new Cleanup();
  const registries = new Registries(options, context.env);
  cleanup.add('close the registry connections', () => registries.close());
  try {
    const result = await fetchImage(options, context, cleanup, registries);
    if (options.json) context.print(toJson(result));
    else
      context.print(
        `${result.image} is complete: ${shortDigest(result.digest)}, ${formatBytes(result.fetchedBytes)} fetched, ${formatBytes(result.totalBytes)} in all`,
      );
  } finally {
    context.progress.abandon();
    for (const failure of await cleanup.run()) context.warn(`warning: ${failure.message}`);
  }
}

interface Fetched {
  image: string;
  digest: string;
  fetchedBytes: number;
  totalBytes: number;
}

async function fetchImage(
  options: FetchOptions,
  context: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<Fetched> {
  const reference = parseReference(options.reference);
  const containerd = await createContainerd(options);
  cleanup.add('close the connection to containerd', async () => containerd.close());
  const lease = await containerd.leases.create({ lifetimeMs: LEASE_MS, name: 'thaw-fetch' });
  cleanup.add(`delete the lease ${lease.id}`, () => containerd.leases.remove(lease.id));
  const store = containerd.within({ lease: lease.id, signal: context.signal });
  const step = context.progress.step('Fetching');
  const { signal } = context;
  // What one host sent before it failed is in the content store, and is not asked for again.
  const { known, top, fetchedBytes, totalBytes } = await registries.reading(
    reference.registry,
    signal,
    (client) => completeImage({ store, client, reference, name: options.reference, signal, step }),
  );
  const name = known?.name ?? formatReference(reference);
  if (!known) await createImage(store, { name, labels: {}, target: top });
  return { image: name, digest: top.digest, fetchedBytes, totalBytes };
}

async function createImage(store: Containerd, image: Image): Promise<void> {
  try {
    await store.images.create(image);
  } catch (error) {
    // Somebody pulled it meanwhile; what is there refers to blobs of its own.
    if (describeError(error).code !== Code.alreadyExists) throw error;
  }
}
