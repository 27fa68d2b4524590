/** Brings an image's documents and blobs into containerd's content store, from its registry where they are missing. */
import { digestOf } from '../../checkpoint/digest.ts';
import { formatReference, type Reference, type RegistryClient } from '../../checkpoint/registry/index.ts';
import {
  imageIndexSchema,
  type Manifest,
  manifestSchema,
  parseDocument,
  selectPlatform,
} from '../../checkpoint/registry/manifest.ts';
import { isIndexType } from '../../checkpoint/registry/media-types.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { Containerd, Descriptor, Image } from '../containerd/index.ts';
import { CliError } from '../error.ts';
import { inParallel } from '../parallel.ts';
import { hostPlatform } from '../registry.ts';
import { formatBytes } from '../ui/format.ts';
import type { Step } from '../ui/progress.ts';
import { blobsOf, indexGcLabels, manifestGcLabels, sourceLabel, type WantedBlob } from './plan.ts';

const PARALLEL = 3;
const MAX_DOCUMENT_BYTES = 8 << 20;

export interface CompleteOptions {
  /** Calls in a lease, which keeps what is fetched. */
  store: Containerd;
  client: RegistryClient;
  reference: Reference;
  /** As the user has written it; containerd may know it by this name alone. */
  name: string;
  signal: AbortSignal;
  step: Step;
}

export interface CompleteImage {
  /** As containerd knows it already. */
  known: Image | undefined;
  /** What the name stands for: a manifest or an index. */
  top: Descriptor;
  /** For this machine. */
  manifest: Manifest;
  fetchedBytes: number;
  totalBytes: number;
}

/** All of it is there when this returns, and garbage collection that finds the top finds the rest. */
export async function completeImage(options: CompleteOptions): Promise<CompleteImage> {
  const { store, client, reference, signal, step } = options;
  const { registry, repository } = reference;
  const known = await findImage(store, [options.name, formatReference(reference)]);
  const source: Source = { store, client, registry, repository, signal };
  const top = known?.target ?? (await pullTarget(source, reference.digest ?? reference.tag ?? 'latest'));
  const { manifest, documents } = await completeDocuments(source, top);

  const wanted = blobsOf(manifest, sourceLabel(registry, repository));
  const missing: WantedBlob[] = [];
  for (const blob of wanted) {
    // What an earlier command left may be about to be collected.
    await store.leases.keep('content', blob.digest);
    if (!(await store.content.find(blob.digest))) missing.push(blob);
  }
  const fetchedBytes = missing.reduce((sum, { size }) => sum + size, 0);
  step.update(0, fetchedBytes);
  await inParallel(missing, PARALLEL, signal, async (blob, stop) => {
    const bytes = counted(client.readBlob(repository, blob, { signal: stop }), (count) => step.add(count));
    await store
      .within({ signal: stop })
      .content.write({ digest: blob.digest, size: BigInt(blob.size), labels: blob.labels }, bytes);
  });
  step.finish(`${missing.length} of ${wanted.length} blobs, ${formatBytes(fetchedBytes)}`);
  // Labels only now: the collector must not be told of blobs that are not there yet, nor lose them later.
  for (const { digest, labels } of documents) await store.content.setLabels(digest, labels);
  const totalBytes = wanted.reduce((sum, { size }) => sum + size, 0);
  return { known, top, manifest, fetchedBytes, totalBytes };
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
  await store.leases.keep('content', digest);
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
