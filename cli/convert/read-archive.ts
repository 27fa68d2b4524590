/** Takes an archive apart. Everything in it is untrusted. */
import { createReadStream, createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { extract } from 'tar-stream';
import { Code, describeError } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import { classify, MAX_DOCUMENT_BYTES, MAX_ENTRIES } from './archive.ts';
import type { ArchiveDocuments } from './archive-facts.ts';

/** Of CRIU's log, where its version is. */
const LOG_BYTES = 64 << 10;

export interface ReadArchiveOptions {
  path: string;
  /** Where the images go, and nothing else. */
  imagesDir: string;
  /** Where rootfs-diff.tar goes, as it is. */
  diffPath: string;
  /** The same for devshm-checkpoint.tar. */
  shmPath: string;
  signal: AbortSignal;
  onProgress(bytes: number): void;
}

type Content = AsyncIterable<Buffer>;

export interface ReadArchive {
  documents: ArchiveDocuments;
  hasDiff: boolean;
  hasShm: boolean;
  /** Names of those in which something was. */
  volumes: string[];
  images: string[];
}

export async function readArchive(options: ReadArchiveOptions): Promise<ReadArchive> {
  const { path, signal } = options;
  const tar = extract();
  const feeding = openMaybeCompressed(path, signal).then((source) => pipeline(source, tar, { signal }));
  // A failure of it ends the loop below too, and is the one to tell of.
  feeding.catch((error: unknown) => tar.destroy(error instanceof Error ? error : undefined));
  try {
    const found = await takeEntries(tar, options);
    await feeding;
    return found;
  } catch (error) {
    tar.destroy();
    await feeding.catch(() => undefined);
    if (error instanceof CliError) throw error;
    if (signal.aborted) throw new CliError(Code.canceled, 'Interrupted');
    const { code, context, message } = describeError(error);
    if (context.errno === 'ENOENT' || context.errno === 'EACCES')
      throw new CliError(code, `Cannot read the archive ${path}: check that it exists and can be read`, {
        cause: error,
      });
    if (typeof context.errno === 'string') throw error;
    throw new CliError(
      Code.dataLoss,
      `Cannot read the archive ${path}: it is no tar, or a damaged one (${message})`,
      {
        cause: error,
      },
    );
  }
}

async function takeEntries(
  tar: ReturnType<typeof extract>,
  options: ReadArchiveOptions,
): Promise<ReadArchive> {
  const documents: ArchiveDocuments = {
    config: undefined,
    spec: undefined,
    deleted: undefined,
    facts: undefined,
    log: '',
  };
  const images: string[] = [];
  const volumes: string[] = [];
  let hasDiff = false;
  let hasShm = false;
  let ofPod = false;
  let entries = 0;
  for await (const stream of tar) {
    const content = stream as Content;
    if (++entries > MAX_ENTRIES) throw broken('it has too many entries');
    const { name, type } = stream.header;
    const entry = classify(name, type);
    switch (entry.kind) {
      case 'image':
        await store(content, join(options.imagesDir, entry.name), options);
        images.push(entry.name);
        break;
      case 'diff':
        await store(content, options.diffPath, options);
        hasDiff = true;
        break;
      case 'shm':
        await store(content, options.shmPath, options);
        hasShm = true;
        break;
      case 'volume':
        if (await holdsAnything(content)) volumes.push(entry.name);
        break;
      case 'pod':
        ofPod = true;
        for await (const _ of content);
        break;
      case 'document':
        if (documents[entry.name] !== undefined) throw broken(`${name} is in it twice`);
        documents[entry.name] = await readDocument(content, name);
        break;
      case 'log':
        documents.log = await readBeginning(content);
        break;
      case 'ignored':
        for await (const _ of content);
        break;
    }
  }
  if (ofPod && documents.config === undefined)
    throw new CliError(
      Code.failedPrecondition,
      'Cannot convert the archive: it is that of a whole pod; take the archive of one container out of it',
    );
  return { documents, hasDiff, hasShm, volumes, images };
}

async function store(
  source: Content,
  path: string,
  { signal, onProgress }: ReadArchiveOptions,
): Promise<void> {
  const counted = async function* () {
    for await (const part of source) {
      onProgress(part.length);
      yield part;
    }
  };
  try {
    await pipeline(counted, createWriteStream(path, { flags: 'wx', mode: 0o600 }), { signal });
  } catch (error) {
    if (describeError(error).context.errno === 'EEXIST')
      throw broken(`${JSON.stringify(path.split('/').at(-1))} is in it twice`);
    throw error;
  }
}

/** Whether a tar has more than its own directory. Reads it to its end. */
async function holdsAnything(source: Content): Promise<boolean> {
  const tar = extract();
  const feeding = pipeline(source, tar);
  feeding.catch((error: unknown) => tar.destroy(error instanceof Error ? error : undefined));
  let found = false;
  for await (const entry of tar) {
    found ||= !/^[./]*$/.test(entry.header.name);
    for await (const _ of entry);
  }
  await feeding;
  return found;
}

async function readDocument(source: Content, name: string): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of source) {
    length += part.length;
    if (length > MAX_DOCUMENT_BYTES) throw broken(`${name} has more than ${MAX_DOCUMENT_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

async function readBeginning(source: Content): Promise<string> {
  let text = '';
  for await (const part of source) if (text.length < LOG_BYTES) text += part.toString('latin1');
  return text.slice(0, LOG_BYTES);
}

/** By its first bytes: Podman compresses archives, and containerd the diff inside of them. */
export async function openMaybeCompressed(path: string, signal: AbortSignal): Promise<Readable> {
  const head = Buffer.alloc(4);
  const file = await open(path, 'r');
  try {
    await file.read(head, 0, 4, 0);
  } finally {
    await file.close();
  }
  const raw = createReadStream(path, { highWaterMark: 1 << 20, signal });
  const through = (decoder: ReturnType<typeof createGunzip> | ReturnType<typeof createZstdDecompress>) => {
    raw.on('error', (error) => decoder.destroy(error));
    return raw.pipe(decoder);
  };
  if (head.readUInt16BE(0) === 0x1f8b) return through(createGunzip());
  if (head.readUInt32LE(0) === 0xfd2fb528) return through(createZstdDecompress());
  return raw;
}

function broken(why: string): CliError {
  return new CliError(Code.dataLoss, `Cannot trust the archive: ${why}`);
}
