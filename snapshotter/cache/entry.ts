/** One checkpoint in the node cache: its files, and the state of bringing them here. */
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { CheckpointIndex } from '../../checkpoint/index-format.ts';
import { decodeIndex } from '../../checkpoint/index-format.ts';
import { Code, describeError } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import { download, type WriteChunk } from './download.ts';
import { ImageFiles, syncPath } from './image-files.ts';
import type { Limiter } from './limiter.ts';
import { Presence } from './presence.ts';

export type EntryState =
  | { kind: 'idle' }
  | { kind: 'fetching'; source: BlobSource; abort: AbortController; done: Promise<void> }
  /** Verified and written; `synced` settles when it is also on disk and marked so. */
  | { kind: 'complete'; synced: Promise<void> }
  | { kind: 'failed'; error: SnapshotError; at: number; failures: number };

export interface EntryEvents {
  onStarted(entry: CacheEntry, source: BlobSource): void;
  onComplete(entry: CacheEntry, source: BlobSource, ms: number): void;
  onFailed(entry: CacheEntry, source: BlobSource, error: SnapshotError): void;
  /** Everything is here, but the marker for after a restart could not be written. */
  onSyncFailed(entry: CacheEntry, error: unknown): void;
}

export interface EntryOptions {
  writeChunk: WriteChunk;
  limiter: Limiter;
  parallel: number;
  /** Monotonic milliseconds. */
  clock: () => number;
  events: EntryEvents;
}

export interface Progress {
  /** Sums of stored (compressed) lengths. */
  storedBytes: bigint;
  presentBytes: bigint;
  /** Received from a registry, and read from files on this node. */
  fetchedBytes: bigint;
  localBytes: bigint;
}

const COMPLETE = 'complete';

export class CacheEntry {
  /** Digest of the index. */
  readonly id: string;
  readonly directory: string;
  readonly index: CheckpointIndex;
  readonly checkpointJson: Uint8Array;
  readonly #options: EntryOptions;
  readonly #files: ImageFiles;
  readonly #presence: Presence;
  readonly #storedBytes: bigint;
  #state: EntryState = { kind: 'idle' };
  #madeFiles = false;
  #fetched = 0n;
  #local = 0n;

  constructor(
    id: string,
    directory: string,
    index: CheckpointIndex,
    json: Uint8Array,
    options: EntryOptions,
  ) {
    this.id = id;
    this.directory = directory;
    this.index = index;
    this.checkpointJson = json;
    this.#options = options;
    this.#files = new ImageFiles(join(directory, 'files'));
    this.#presence = new Presence(index.chunkCount);
    this.#storedBytes = index.files.reduce((sum, file) => sum + BigInt(file.chunks.storedBytes()), 0n);
  }

  get state(): EntryState {
    return this.#state;
  }

  get imagesDirectory(): string {
    return this.#files.directory;
  }

  get lockFile(): string {
    return join(this.directory, 'lock');
  }

  get progress(): Progress {
    const complete = this.#state.kind === 'complete';
    return {
      storedBytes: this.#storedBytes,
      presentBytes: complete ? this.#storedBytes : this.#presence.bytes,
      fetchedBytes: this.#fetched,
      localBytes: this.#local,
    };
  }

  /** Takes over what an earlier run of the daemon completed; false if it did not. */
  async adopt(): Promise<boolean> {
    let marker: string;
    try {
      marker = await readFile(join(this.directory, COMPLETE), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
    if (marker !== `${this.id}\n`) return false;
    for (const { name, size } of this.index.files) {
      const found = await stat(join(this.imagesDirectory, name), { bigint: true }).catch(() => undefined);
      if (!found?.isFile() || found.size !== size) return false;
    }
    this.#local = this.#storedBytes;
    this.#state = { kind: 'complete', synced: Promise.resolve() };
    return true;
  }

  /** Starts to bring here what is missing, unless that is done or going on. */
  start(source: BlobSource): void {
    if (this.#state.kind === 'complete' || this.#state.kind === 'fetching') return;
    const failures = this.#state.kind === 'failed' ? this.#state.failures : 0;
    const abort = new AbortController();
    const { clock, events } = this.#options;
    const started = clock();
    events.onStarted(this, source);
    const done = this.#fetch(source, abort.signal).then(
      () => {
        const synced = this.#persist().catch((error: unknown) => events.onSyncFailed(this, error));
        this.#state = { kind: 'complete', synced };
        events.onComplete(this, source, Math.round(clock() - started));
      },
      (cause: unknown) => {
        const error = explain(cause, source);
        this.#state = { kind: 'failed', error, at: clock(), failures: failures + 1 };
        if (!abort.signal.aborted) events.onFailed(this, source, error);
      },
    );
    this.#state = { kind: 'fetching', source, abort, done };
  }

  /** Resolves when every byte is here. Rejects with the reason why the last attempt failed, or when `signal` aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    if (this.#state.kind === 'fetching') await untilAborted(this.#state.done, signal);
    switch (this.#state.kind) {
      case 'complete':
        return;
      case 'failed':
        throw this.#state.error;
      case 'idle':
      case 'fetching':
        throw new SnapshotError(Code.unavailable, 'Cannot wait for the checkpoint: nothing fetches it', {
          context: { id: this.id },
        });
    }
  }

  /** Ends an attempt, and waits until nothing is written any more. */
  async stop(): Promise<void> {
    const state = this.#state;
    if (state.kind === 'fetching') {
      state.abort.abort(new SnapshotError(Code.canceled, 'The fetch of the checkpoint was stopped'));
      await state.done;
    } else if (state.kind === 'complete') {
      await state.synced;
    }
  }

  async #fetch(source: BlobSource, signal: AbortSignal): Promise<void> {
    const { writeChunk, limiter, parallel } = this.#options;
    if (!this.#madeFiles) {
      await rm(join(this.directory, COMPLETE), { force: true });
      await this.#files.create(this.index.files);
      this.#madeFiles = true;
    }
    await download({
      index: this.index,
      source,
      files: this.#files,
      presence: this.#presence,
      writeChunk,
      limiter,
      parallel,
      signal,
      onBytes: (bytes) => {
        if (source.kind === 'remote') this.#fetched += BigInt(bytes);
        else this.#local += BigInt(bytes);
      },
    });
    if (!this.#presence.complete)
      throw new SnapshotError(Code.internal, 'The fetch of the checkpoint ended with chunks missing');
  }

  /** The marker appears only after everything that it vouches for is on disk. */
  async #persist(): Promise<void> {
    await this.#files.sync(this.index.files);
    const marker = join(this.directory, COMPLETE);
    const handle = await open(`${marker}.new`, 'w', 0o600);
    try {
      await handle.writeFile(`${this.id}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(`${marker}.new`, marker);
    await syncPath(this.directory);
  }
}

/** Reads index and checkpoint.json of a cache directory. The caller checks the index's digest. */
export async function readEntryFiles(
  directory: string,
): Promise<{ indexBytes: Uint8Array; index: CheckpointIndex; checkpointJson: Uint8Array }> {
  const indexBytes = await readFile(join(directory, 'index'));
  const checkpointJson = await readFile(join(directory, 'checkpoint.json'));
  return { indexBytes, index: decodeIndex(indexBytes), checkpointJson };
}

function explain(cause: unknown, source: BlobSource): SnapshotError {
  if (cause instanceof SnapshotError) return cause;
  const { code, message, context } = describeError(cause);
  if (context.errno === 'ENOSPC' || context.errno === 'EDQUOT')
    return new SnapshotError(
      Code.resourceExhausted,
      'Cannot store the checkpoint: the disk of the node cache is full; free space there',
      { cause },
    );
  return new SnapshotError(code, `Cannot fetch the checkpoint from ${source.description}: ${message}`, {
    cause,
    context,
  });
}

/** The promise, or the signal's reason if that comes first. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () =>
      reject(
        new SnapshotError(Code.canceled, 'The caller gave up waiting for the checkpoint', {
          cause: signal.reason,
        }),
      );
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
