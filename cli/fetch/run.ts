import { digestOf } from '../../checkpoint/digest.ts';
import { formatReference, parseReference, type RegistryClient } from '../../checkpoint/registry/index.ts';
import {
  imageIndexSchema,
  type Manifest,
  manifestSchema,
  parseDocument,
  selectPlatform,
} from '../../checkpoint/registry/manifest.ts';
import { isIndexType } from '../../checkpoint/registry/media-types.ts';
import { Code, describeError } from '../../proto/status.ts';
import { Cleanup } from '../cleanup.ts';
import type { FetchOptions } from '../commands/handlers.ts';
import { type Containerd, createContainerd, type Descriptor, type Image } from '../containerd/index.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { inParallel } from '../parallel.ts';
import { hostPlatform, Registries } from '../registry.ts';
import { formatBytes, shortDigest } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { blobsOf, indexGcLabels, manifestGcLabels, sourceLabel, type WantedBlob } from './plan.ts';

const LEASE_MS = 24 * 3_600_000;
const PARALLEL = 3;
const MAX_DOCUMENT_BYTES = 8 << 20;

/** `thaw fetch`. */
export async function runFetch(options: FetchOptions, context: Context): Promise<void> {
  const cleanup = new Cleanup();
  const registries = new Registries(options.plainHttp, context.env);
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
  const { registry, repository } = reference;
  const containerd = await createContainerd(options);
  cleanup.add('close the connection to containerd', async () => containerd.close());
  const lease = await containerd.leases.create({ lifetimeMs: LEASE_MS, name: 'thaw-fetch' });
  cleanup.add(`delete the lease ${lease.id}`, () => containerd.leases.remove(lease.id));
  const store = containerd.within({ lease: lease.id, signal: context.signal });
  const client = registries.client(registry);

  const known = await findImage(store, [options.reference, formatReference(reference)]);
  const source: Source = { store, client, registry, repository, signal: context.signal };
  const top = known?.target ?? (await pullTarget(source, reference.digest ?? reference.tag ?? 'latest'));
  const { manifest, documents } = await completeDocuments(source, top);

  const wanted = blobsOf(manifest, sourceLabel(registry, repository));
  const missing: WantedBlob[] = [];
  for (const blob of wanted) if (!(await store.content.find(blob.digest))) missing.push(blob);
  const fetchedBytes = missing.reduce((sum, { size }) => sum + size, 0);
  const step = context.progress.step('Fetching', fetchedBytes);
  await inParallel(missing, PARALLEL, context.signal, async (blob, signal) => {
    const bytes = counted(client.readBlob(repository, blob, { signal }), (count) => step.add(count));
    await store
      .within({ signal })
      .content.write({ digest: blob.digest, size: BigInt(blob.size), labels: blob.labels }, bytes);
  });
  step.finish(`${missing.length} of ${wanted.length} blobs, ${formatBytes(fetchedBytes)}`);
  // Labels only now: the collector must not be told of blobs that are not there yet, nor lose them later.
  for (const { digest, labels } of documents) await store.content.setLabels(digest, labels);
  const name = known?.name ?? formatReference(reference);
  if (!known) await createImage(store, { name, labels: {}, target: top });
  const totalBytes = wanted.reduce((sum, { size }) => sum + size, 0);
  return { image: name, digest: top.digest, fetchedBytes, totalBytes };
}

interface Source {
  store: Containerd;
  client: RegistryClient;
  registry: string;
  repository: string;
  signal: AbortSignal;
}

async function findImage(store: Containerd, names: readonly string[]): Promise<Image | undefined> {
  for (const name of new Set(names)) {
    try {
      return await store.images.get(name);
    } catch (error) {
      if (describeError(error).code !== Code.notFound) throw error;
    }
  }
  return undefined;
}

async function createImage(store: Containerd, image: Image): Promise<void> {
  try {
    await store.images.create(image);
  } catch (error) {
    // Somebody pulled it meanwhile; what is there refers to blobs of its own.
    if (describeError(error).code !== Code.alreadyExists) throw error;
  }
}

async function pullTarget({ client, repository, signal }: Source, selector: string): Promise<Descriptor> {
  const { descriptor } = await client.manifest(repository, selector, { signal });
  const { mediaType, digest, size } = descriptor;
  return { mediaType, digest, size: BigInt(size), annotations: {} };
}

/** Stores index and manifest; returns the manifest for this machine and the labels that the documents need. */
async function completeDocuments(
  source: Source,
  top: Descriptor,
): Promise<{ manifest: Manifest; documents: { digest: string; labels: Record<string, string> }[] }> {
  const bytes = await completeDocument(source, top.digest);
  if (!isIndexType(top.mediaType)) {
    const manifest = parseDocument(manifestSchema, bytes, 'the manifest');
    return { manifest, documents: [{ digest: top.digest, labels: manifestGcLabels(manifest) }] };
  }
  const index = parseDocument(imageIndexSchema, bytes, 'the image index');
  const { digest } = selectPlatform(index, hostPlatform());
  const manifest = parseDocument(manifestSchema, await completeDocument(source, digest), 'the manifest');
  return {
    manifest,
    documents: [
      { digest, labels: manifestGcLabels(manifest) },
      { digest: top.digest, labels: indexGcLabels(index.manifests, digest) },
    ],
  };
}

async function completeDocument(source: Source, digest: string): Promise<Buffer> {
  const { store, client, registry, repository, signal } = source;
  if (await store.content.find(digest)) {
    const bytes = await store.content.readAll(digest, MAX_DOCUMENT_BYTES);
    if (digestOf(bytes) !== digest)
      throw new CliError(
        Code.dataLoss,
        `Cannot use ${digest}: containerd's content store has other bytes for it`,
      );
    return bytes;
  }
  const { bytes } = await client.manifest(repository, digest, { signal });
  const blob = { digest, size: BigInt(bytes.length), labels: sourceLabel(registry, repository) };
  await store.content.write(blob, once(bytes));
  return bytes;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function* counted(
  source: AsyncIterable<Uint8Array>,
  count: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  for await (const part of source) {
    count(part.length);
    yield part;
  }
}
