/** A checkpoint image to an archive that other tools read. */
import { createReadStream, createWriteStream } from 'node:fs';
import { access, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type Pack, pack } from 'tar-stream';
import { hasConnections } from '../../checkpoint/criu/inet-sockets.ts';
import { readInventory, withoutTcpClose } from '../../checkpoint/criu/inventory.ts';
import type { CheckpointFacts, LayerFacts } from '../../checkpoint/facts.ts';
import { unpack } from '../../checkpoint/pack/index.ts';
import { formatReference, parseReference, type RegistryClient } from '../../checkpoint/registry/index.ts';
import { SHM_DATA_FILE, SHM_LIST_FILE } from '../../checkpoint/shm.ts';
import { Code } from '../../proto/status.ts';
import { makeScratch } from '../checkpoint/scratch.ts';
import type { Cleanup } from '../cleanup.ts';
import type { ToArchiveOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { openFromRegistry } from '../inspect/open.ts';
import { hostPlatform, type Registries } from '../registry.ts';
import { formatBytes } from '../ui/format.ts';
import { ARCHIVE } from './archive.ts';
import { archiveDocuments } from './archive-facts.ts';
import { deletedBy } from './diff-layer.ts';
import { writeShmTar } from './shm-tar.ts';

export interface WrittenArchive {
  archive: string;
  bytes: number;
  reference: string;
}

export async function convertToArchive(
  options: ToArchiveOptions,
  context: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<WrittenArchive> {
  const { progress, signal } = context;
  await refuseExisting(options.archive);
  const reference = parseReference(options.reference);
  const client = registries.client(reference.registry);
  const reading = progress.step('Reading the checkpoint');
  const checkpoint = await openFromRegistry(client, options.reference, signal);
  if (checkpoint.image?.layers.some(({ kind }) => kind === 'above'))
    throw new CliError(
      Code.failedPrecondition,
      `Cannot convert ${options.reference}: it has layers above the checkpoint, which an archive has no place for`,
    );
  const scratch = await makeScratch(options.workDir, cleanup);
  const layers = await checkpoint.openLayers(signal);
  try {
    await unpack(checkpoint.index, layers, scratch.images, {
      signal,
      onProgress: (done, total) => reading.update(done, total),
    });
  } finally {
    await layers.close();
  }
  await forgetClosing(scratch.images);
  const { facts } = checkpoint;
  const diff = facts.layers.diff && join(scratch.root, 'rootfs-diff.tar');
  if (diff && facts.layers.diff)
    await fetchDiff(client, reference.repository, facts.layers.diff, diff, signal);
  reading.finish(formatBytes(facts.memoryBytes));

  const created = new Date(facts.created);
  const shm = join(scratch.root, 'devshm.tar');
  const writing = progress.step('Writing the archive');
  const partial = `${options.archive}.partial`;
  cleanup.add(`remove ${partial}`, () => rm(partial, { force: true }));
  const digest = checkpoint.image?.digest ?? '';
  const base = await baseByDigest(facts, registries, signal);
  if (base === undefined)
    context.warn(
      `warning: ${facts.image.reference} is not there any more as it was; containerd cannot restore the archive by itself`,
    );
  await writeArchive(partial, {
    documents: archiveDocuments(facts, { base, digest }),
    deleted: diff ? await deletedBy(diff, signal) : [],
    diff: diff ?? undefined,
    shm: (await writeShmTar(scratch.images, shm, created, signal)) ? shm : undefined,
    imagesDir: scratch.images,
    created,
    signal,
    onProgress: (bytes) => writing.add(bytes),
  });
  await rename(partial, options.archive);
  const { size } = await stat(options.archive);
  writing.finish(formatBytes(size));
  return { archive: options.archive, bytes: size, reference: options.reference };
}

/**
 * Our dumps close connections, which CRIU notes, and it then restores them for nobody who does not ask it to close them again,
 * as the other engines do not. Where there was no connection there is nothing to close.
 */
async function forgetClosing(imagesDir: string): Promise<void> {
  const [inventory, files] = [join(imagesDir, 'inventory.img'), join(imagesDir, 'files.img')];
  const bytes = await readFile(inventory);
  if (readInventory(bytes).tcpClose && !hasConnections(await readFile(files)))
    await writeFile(inventory, withoutTcpClose(bytes));
}

/** The base image as NAME@DIGEST, if its name still means what the container ran from. */
async function baseByDigest(
  { image }: CheckpointFacts,
  registries: Registries,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const reference = parseReference(image.reference);
    const { registry, repository } = reference;
    const { descriptor, manifest } = await registries.reading(registry, signal, (client) =>
      client.image(reference, hostPlatform(), { signal }),
    );
    const isSame = manifest.config.digest === image.configDigest;
    return isSame
      ? formatReference({ registry, repository, tag: undefined, digest: descriptor.digest })
      : undefined;
  } catch (error) {
    if (signal.aborted) throw error;
    return undefined;
  }
}

async function refuseExisting(path: string): Promise<void> {
  const there = await access(path).then(
    () => true,
    () => false,
  );
  if (there)
    throw new CliError(
      Code.alreadyExists,
      `Cannot write ${path}: it is there already; name another file, or remove it`,
    );
  await mkdir(dirname(path), { recursive: true });
}

/** Uncompressed, as Podman and CRI-O write it. */
async function fetchDiff(
  client: RegistryClient,
  repository: string,
  layer: LayerFacts,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  const bytes = client.readBlob(repository, layer, { signal });
  const file = createWriteStream(path, { flags: 'wx', mode: 0o600 });
  if (layer.mediaType.endsWith('gzip')) await pipeline(bytes, createGunzip(), file, { signal });
  else if (layer.mediaType.endsWith('zstd')) await pipeline(bytes, createZstdDecompress(), file, { signal });
  else await pipeline(bytes, file, { signal });
}

/** Files of an image that lie elsewhere in an archive, or in another form. */
const ELSEWHERE: readonly string[] = [ARCHIVE.stats, SHM_LIST_FILE, SHM_DATA_FILE];

interface ArchiveContent {
  documents: Record<string, object>;
  deleted: readonly string[];
  diff: string | undefined;
  shm: string | undefined;
  imagesDir: string;
  created: Date;
  signal: AbortSignal;
  onProgress(bytes: number): void;
}

/** A dump holds every secret of the container's memory: only root may read it. */
async function writeArchive(path: string, content: ArchiveContent): Promise<void> {
  const tar = pack();
  const writing = pipeline(tar, createWriteStream(path, { flags: 'w', mode: 0o600 }), {
    signal: content.signal,
  });
  writing.catch((error: unknown) => tar.destroy(error instanceof Error ? error : undefined));
  await addEntries(tar, content);
  tar.finalize();
  await writing;
}

async function addEntries(tar: Pack, content: ArchiveContent): Promise<void> {
  const { documents, deleted, diff, shm, imagesDir, created: mtime } = content;
  for (const [name, document] of Object.entries(documents))
    tar.entry({ name, mode: 0o600, mtime }, JSON.stringify(document, null, 2));
  if (deleted.length > 0) tar.entry({ name: ARCHIVE.deleted, mode: 0o600, mtime }, JSON.stringify(deleted));
  if (diff !== undefined) await addFile(tar, ARCHIVE.diff, diff, content);
  if (shm !== undefined) await addFile(tar, ARCHIVE.shm, shm, content);
  const names = (await readdir(imagesDir)).sort();
  if (names.includes(ARCHIVE.stats))
    await addFile(tar, ARCHIVE.stats, join(imagesDir, ARCHIVE.stats), content);
  tar.entry({ name: `${ARCHIVE.images}/`, type: 'directory', mode: 0o700, mtime });
  for (const name of names.filter((one) => !ELSEWHERE.includes(one)))
    await addFile(tar, `${ARCHIVE.images}/${name}`, join(imagesDir, name), content);
}

async function addFile(tar: Pack, name: string, path: string, content: ArchiveContent): Promise<void> {
  const { size } = await stat(path);
  const entry = tar.entry({ name, mode: 0o600, mtime: content.created, size });
  const source = createReadStream(path, { highWaterMark: 1 << 20 });
  source.on('data', (part) => content.onProgress(part.length));
  await pipeline(source, entry, { signal: content.signal });
}
