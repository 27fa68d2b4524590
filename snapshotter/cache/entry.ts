/** One checkpoint in the node cache: its files, and the state of bringing them here. */
import { join } from 'node:path';
import type { CheckpointIndex, ChunkIndex } from '../../checkpoint/index-format.ts';
import { Code } from '../../proto/status.ts';
import { internal, invalidArgument, SnapshotError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import type { Calm } from './calm.ts';
import { Demand } from './demand.ts';
import { download } from './download.ts';
import { type EntryContent, INDEX } from './entry-content.ts';
import { EntryFiles } from './entry-files.ts';
import { explain, isFinal, isFull } from './fetch-failure.ts';
import { CopyingTransfers, type FrameCopies } from './frame-copies.ts';
import { GivenUp } from './given-up.ts';
import type { Limiter } from './limiter.ts';
import { allPresent, Presence } from './presence.ts';
import { PresenceWatch } from './presence-watch.ts';
import type { Transfers } from './transfers.ts';
import { untilAborted } from './until-aborted.ts';

export type EntryState =
  | { kind: 'idle' }
  | { kind: 'fetching'; source: BlobSource; abort: AbortController; done: Promise<void> }
  /** Verified and written; `synced` settles when it is also on disk and marked so. */
  | { kind: 'complete'; synced: Promise<void> }
  | {
      kind: 'failed';
      error: SnapshotError;
      at: number;
      /** Attempts in a row that brought nothing, and how many of them somebody was waiting for. */
      failures: number;
      wantedFailures: number;
    };

export interface EntryEvents {
  onStarted(entry: CacheEntry, source: BlobSource): void;
  /** Bytes were read, of layers as they are stored; `cache`: of another layer here. */
  onBytes(from: 'registry' | 'mirror' | 'unpacked' | 'cache', bytes: number): void;
  onComplete(entry: CacheEntry, source: BlobSource, ms: number): void;
  onFailed(entry: CacheEntry, source: BlobSource, error: SnapshotError): void;
  /** Everything is here, but the marker for after a restart could not be written. */
  onSyncFailed(entry: CacheEntry, error: unknown): void;
}

export interface EntryOptions {
  transfers: Transfers;
  limiter: Limiter;
  soonLimiter: Limiter;
  calm: Calm;
  parallel: number;
  /** Monotonic milliseconds. */
  clock: () => number;
  /** /proc/sys/kernel/random/boot_id. */
  bootId: string;
  events: EntryEvents;
  /** Before a fetch takes disk space; rejects if there is none for it. */
  makeRoom(entry: CacheEntry): Promise<void>;
  /** The disk is full: true if another attempt is worth it. */
  freeSome(entry: CacheEntry): Promise<boolean>;
  /** Where frames of a lazy layer are on this node too. */
  findCopies(entry: CacheEntry): Promise<FrameCopies>;
  /** Runs `work` while nobody uses the entry; FAILED_PRECONDITION if somebody does. */
  whileUnused<T>(entry: CacheEntry, work: () => Promise<T>): Promise<T>;
}

export interface Progress {
  /** Sums of stored (compressed) lengths. */
  storedBytes: bigint;
  presentBytes: bigint;
  /** Received from a registry, and read from files on this node. */
  fetchedBytes: bigint;
  localBytes: bigint;
  /** Chunks that somebody waits for. */
  wantedChunks: number;
}

export interface PresentChunks {
  /** One bit a chunk by ordinal, lowest first. */
  bits: Uint8Array;
  chunks: number;
  complete: boolean;
}

/** A failure that waiting does not help is the answer for so long; then it is tried again. */
const STALE_MS = 10_000;

export class CacheEntry {
  /** Digest of the index. */
  readonly id: string;
  readonly directory: string;
  readonly content: EntryContent;
  readonly #options: EntryOptions;
  readonly #presence: Presence;
  readonly #files: EntryFiles;
  readonly #storedBytes: bigint;
  /** Of disk that it takes when it is complete. */
  readonly bytes: bigint;
  /** Milliseconds since 1970. */
  lastUsed = 0;
  /** Told of every chunk that becomes present. */
  onPresent: (ordinal: number) => void = () => {};
  /** Told when the last byte has come. */
  onComplete: () => void = () => {};
  /** Before the rest, in this order. */
  #first: readonly number[] = [];
  readonly #demand = new Demand();
  readonly #watch = new PresenceWatch();
  #givenUp: GivenUp;
  #state: EntryState = { kind: 'idle' };
  #makingFiles: Promise<void> = Promise.resolve();
  /** Somebody waits for everything to be on disk. */
  #hurried = false;
  #fetched = 0n;
  #local = 0n;

  constructor(id: string, directory: string, content: EntryContent, options: EntryOptions) {
    this.id = id;
    this.directory = directory;
    this.content = content;
    const { index } = content;
    this.#options = options;
    this.#presence = new Presence(index.chunkCount);
    this.#presence.onAdded = (ordinal) => {
      this.onPresent(ordinal);
      this.#demand.arrived(ordinal);
      this.#watch.notify();
    };
    this.#givenUp = new GivenUp(index);
    this.#storedBytes = index.files.reduce((sum, file) => sum + BigInt(file.chunks.storedBytes()), 0n);
    this.bytes = index.files.reduce((sum, file) => sum + BigInt(file.chunks.decodedBytes()), 0n);
    const { bootId, clock } = options;
    this.#files = new EntryFiles({ id, directory, index, presence: this.#presence, bootId, clock });
  }

  get index(): ChunkIndex {
    return this.content.index;
  }

  /** INTERNAL for what is no checkpoint. */
  get checkpoint(): { index: CheckpointIndex; json: Uint8Array } {
    if (this.content.kind !== 'checkpoint') throw internal(`"${this.id}" is no checkpoint`);
    return this.content;
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

  /** The index, as it was verified. */
  get indexFile(): string {
    return join(this.directory, INDEX);
  }

  get isWanted(): boolean {
    return this.#demand.size > 0;
  }

  /** Whether a chunk is verified and written. */
  has(ordinal: number): boolean {
    return this.#state.kind === 'complete' || this.#presence.has(ordinal);
  }

  get progress(): Progress {
    const complete = this.#state.kind === 'complete';
    return {
      storedBytes: this.#storedBytes,
      presentBytes: complete ? this.#storedBytes : this.#presence.bytes,
      fetchedBytes: this.#fetched,
      localBytes: this.#local,
      wantedChunks: this.#demand.size,
    };
  }

  /**
   * From the next attempt on, these come before everything else, in this order and in place of the index's. Ordinals that
   * the index does not have are left out: who records an order may know another index.
   */
  prefer(ordinals: readonly number[]): void {
    const { chunkCount } = this.index;
    this.#first = [...new Set(ordinals)].filter((ordinal) => ordinal < chunkCount);
  }

  /** Takes over what an earlier run of the daemon left here; false if that is not all. */
  async adopt(): Promise<boolean> {
    if (!(await this.#files.find())) return false;
    this.#local = this.#storedBytes;
    this.#state = { kind: 'complete', synced: Promise.resolve() };
    return true;
  }

  /** Starts to bring here what is missing, unless that is done or going on. */
  start(source: BlobSource): void {
    if (this.#state.kind === 'complete' || this.#state.kind === 'fetching') return;
    const before = this.#state.kind === 'failed' ? this.#state : { failures: 0, wantedFailures: 0 };
    const abort = new AbortController();
    const { clock, events } = this.#options;
    const started = clock();
    let present = this.#presence.chunks;
    this.#givenUp = new GivenUp(this.index);
    this.#hurried = false;
    events.onStarted(this, source);
    const fetch = async () => {
      await this.#prepare(abort.signal);
      present = this.#presence.chunks;
      await this.#bring(source, abort.signal);
    };
    const done = fetch().then(
      () => {
        const synced = this.#files
          .persist(() => this.#hurried)
          .catch((error: unknown) => events.onSyncFailed(this, error));
        this.#state = { kind: 'complete', synced };
        this.#watch.notify();
        events.onComplete(this, source, Math.round(clock() - started));
        this.onComplete();
      },
      (cause: unknown) => {
        const error = explain(cause, source);
        const progressed = this.#presence.chunks > present;
        this.#state = {
          kind: 'failed',
          error,
          at: clock(),
          failures: progressed ? 1 : before.failures + 1,
          wantedFailures: !this.isWanted ? 0 : progressed ? 1 : before.wantedFailures + 1,
        };
        if (abort.signal.aborted) return;
        if (isFinal(error)) this.#demand.failAll(error);
        events.onFailed(this, source, error);
      },
    );
    this.#state = { kind: 'fetching', source, abort, done };
  }

  /**
   * Resolves when these chunks are verified and written; until then they go before all others, in every attempt.
   * INVALID_ARGUMENT for an ordinal that the index does not have. Rejects with a failure that waiting does not help,
   * or when `signal` aborts. Starts no attempt.
   */
  async want(ordinals: readonly number[], signal: AbortSignal): Promise<void> {
    const unknown = ordinals.find((ordinal) => ordinal >= this.index.chunkCount);
    if (unknown !== undefined)
      throw invalidArgument(
        `Cannot bring chunk ${unknown} of the checkpoint: it has ${this.index.chunkCount} chunks`,
      );
    if (this.#state.kind === 'complete') return;
    const missing = ordinals.filter((ordinal) => !this.#presence.has(ordinal));
    if (missing.length === 0) return;
    const error = this.#lostCause(missing);
    if (error) throw error;
    await this.#demand.wait(missing, signal);
  }

  /** Why waiting for chunks does not help; undefined if it may. */
  #lostCause(ordinals: readonly number[]): SnapshotError | undefined {
    const state = this.#state;
    if (state.kind === 'failed') {
      if (this.#options.clock() - state.at >= STALE_MS) return undefined;
      if (this.#givenUp.first === undefined && isFinal(state.error)) return state.error;
    }
    for (const ordinal of ordinals) {
      const error = this.#givenUp.errorOf(ordinal);
      if (error && isFinal(error)) return error;
    }
    return undefined;
  }

  get present(): PresentChunks {
    const complete = this.#state.kind === 'complete';
    const count = this.index.chunkCount;
    return {
      bits: complete ? allPresent(count) : this.#presence.bits(),
      chunks: complete ? count : this.#presence.chunks,
      complete: complete || this.#presence.complete,
    };
  }

  /** Resolves when other chunks are present than `known`, all are, some 10 s have passed, or `signal` aborts. */
  async presenceOtherThan(known: number, signal: AbortSignal): Promise<void> {
    if (this.#state.kind === 'complete' || this.#presence.complete || this.#presence.chunks !== known) return;
    await this.#watch.change(signal);
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

  /** Ends an attempt, and waits until nothing is written any more. Whoever waits for chunks gets `reason`. */
  async stop(reason: SnapshotError): Promise<void> {
    this.#demand.failAll(reason);
    this.#watch.notify();
    this.#hurried = true;
    const state = this.#state;
    if (state.kind === 'fetching') {
      state.abort.abort(new SnapshotError(Code.canceled, 'The fetch of the checkpoint was stopped'));
      await state.done;
    } else if (state.kind === 'complete') {
      await state.synced;
    }
  }

  /** Makes its files, empty, where they are not here. RESOURCE_EXHAUSTED without room for them. */
  makeFiles(): Promise<void> {
    // One at a time: two would make them twice.
    this.#makingFiles = this.#makingFiles.catch(() => {}).then(() => this.#makeFiles());
    return this.#makingFiles;
  }

  async #makeFiles(): Promise<void> {
    if (this.#state.kind === 'complete') return;
    await this.#options.makeRoom(this);
    await this.#files.make((work) => this.#options.whileUnused(this, work));
  }

  async #prepare(signal: AbortSignal): Promise<void> {
    await this.makeFiles();
    signal.throwIfAborted();
    const before = this.#presence.bytes;
    await this.#files.takeOver(signal);
    this.#local += this.#presence.bytes - before;
    this.#files.saver.begin();
  }

  async #bring(source: BlobSource, signal: AbortSignal): Promise<void> {
    const { saver } = this.#files;
    for (;;) {
      try {
        await this.#download(source, signal).finally(() => saver.stop());
        break;
      } catch (error) {
        await saver.settled();
        if (isFull(error) && !signal.aborted && (await this.#options.freeSome(this))) {
          saver.resume();
          continue;
        }
        await saver.save().catch(() => {});
        throw error;
      }
    }
    await saver.settled();
  }

  async #download(source: BlobSource, signal: AbortSignal): Promise<void> {
    const { transfers, limiter, soonLimiter, calm, parallel, clock, events } = this.#options;
    const { index } = this;
    const copies = await this.#options.findCopies(this);
    await download({
      index: this.#first.length > 0 ? { ...index, accessOrder: this.#first } : index,
      source,
      directory: this.imagesDirectory,
      transfers: new CopyingTransfers(transfers, copies, (bytes) => {
        this.#local += BigInt(bytes);
        events.onBytes('cache', bytes);
        this.#files.saver.arrived();
      }),
      presence: this.#presence,
      givenUp: this.#givenUp,
      demand: this.#demand,
      limiter,
      soonLimiter,
      calm,
      // A lazy layer is read where it is needed; a checkpoint's memory is needed whole.
      restInBackground: this.content.kind === 'layer',
      parallel,
      clock,
      signal,
      onBytes: (bytes, mirrored) => {
        const remote = source.kind === 'remote';
        if (remote) this.#fetched += BigInt(bytes);
        else this.#local += BigInt(bytes);
        events.onBytes(remote ? 'registry' : 'unpacked', bytes - mirrored);
        if (mirrored > 0) events.onBytes('mirror', mirrored);
        this.#files.saver.arrived();
      },
    });
    if (!this.#presence.complete)
      throw new SnapshotError(Code.internal, 'The fetch of the checkpoint ended with chunks missing');
  }
}
