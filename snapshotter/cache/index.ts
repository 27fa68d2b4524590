/**
 * The node cache: decoded checkpoints below `cache/<hex of the index digest>/`, each brought here once and shared by
 * all who restore it. Called by remote/ and checkpoints/; knows neither snapshots nor registries, only BlobSource.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf } from '../../checkpoint/digest.ts';
import { Code, describeError } from '../../proto/status.ts';
import { diskUsage } from '../disk-usage.ts';
import { dataLoss, failedPrecondition, notFound, SnapshotError } from '../error.ts';
import type { BlobSource } from './blob-source.ts';
import { CacheEntry, type EntryEvents, type EntryOptions, type PresentChunks } from './entry.ts';
import {
  CHECKPOINT_JSON,
  checkpointContent,
  type EntryContent,
  INDEX,
  layerContent,
  readEntryFiles,
} from './entry-content.ts';
import { type FrameCopies, findCopies, type OtherLayer } from './frame-copies.ts';
import { syncPath } from './image-files.ts';
import { retryDelay } from './retry-schedule.ts';
import { byLastUse, lacking } from './room.ts';

export { type OpenBeneath, readBeneath } from './beneath.ts';
export type { BlobName, BlobSource, SourceSpec } from './blob-source.ts';
export { Calm } from './calm.ts';
export { CacheEntry, type EntryEvents, type EntryState, type Progress } from './entry.ts';
export { Limiter } from './limiter.ts';
export { LocalSource } from './local-source.ts';
export type { RangeJob } from './range-job.ts';
export { DirectTransfers, type TransferEvents, type Transfers, type WriteChunk } from './transfers.ts';

export interface NodeCacheOptions {
  directory: string;
  entry: Omit<EntryOptions, 'events' | 'makeRoom' | 'freeSome' | 'findCopies' | 'whileUnused'>;
  /** Most bytes of all checkpoints together; undefined: as many as the disk has. */
  maxBytes: bigint | undefined;
  /** Milliseconds since 1970, for the order of use, which outlives a run. */
  now: () => number;
  events: EntryEvents & {
    /** An entry of an earlier run was thrown away. */
    onDiscarded(id: string, reason: string): void;
    /** It went for another one. */
    onDisplaced(id: string, freedBytes: bigint): void;
    /** Somebody asked for it, or its last image went. */
    onEvicted(id: string, freedBytes: bigint): void;
  };
  /** flock(2) on a descriptor, not waiting. */
  tryLock: (fd: number, exclusive: boolean) => boolean;
  /** A source for a checkpoint that this node knows, for another attempt; undefined if nothing names it any more. */
  reopen: (id: string) => BlobSource | undefined;
}

/** A caller that waits makes a failed entry try again, but not one that failed just now. */
const RETRY_ON_DEMAND_MS = 10_000;
const GONE = 'gone-';

export class NodeCache {
  readonly #options: NodeCacheOptions;
  readonly #entries = new Map<string, CacheEntry>();
  readonly #adding = new Map<string, Promise<CacheEntry>>();
  /** Whose files are being removed. */
  readonly #leaving = new Map<string, Promise<unknown>>();
  readonly #retries = new Map<string, NodeJS.Timeout>();
  readonly #entryOptions: EntryOptions;
  /** One makes room at a time, or two would count the same free bytes. */
  #makingRoom: Promise<unknown> = Promise.resolve();

  constructor(options: NodeCacheOptions) {
    this.#options = options;
    const { events } = options;
    this.#entryOptions = {
      ...options.entry,
      makeRoom: (entry) => this.#inTurn(() => this.#makeRoom(entry)),
      freeSome: (entry) => this.#inTurn(() => this.#displaceOne(entry)),
      findCopies: (entry) => this.#findCopies(entry),
      whileUnused: ({ directory }, work) =>
        this.#locked(
          directory,
          'Cannot fetch the checkpoint anew: a container uses what is left of it',
          work,
        ),
      events: {
        onStarted: (...args) => events.onStarted(...args),
        onBytes: (...args) => events.onBytes(...args),
        onComplete: (...args) => events.onComplete(...args),
        onSyncFailed: (...args) => events.onSyncFailed(...args),
        onFailed: (entry, source, error) => {
          events.onFailed(entry, source, error);
          this.#scheduleRetry(entry);
        },
      },
    };
  }

  find(id: string): CacheEntry | undefined {
    return this.#entries.get(id);
  }

  entries(): CacheEntry[] {
    return [...this.#entries.values()];
  }

  /**
   * The entry of a checkpoint, made from its index and checkpoint.json if it is not here. DATA_LOSS or INVALID_ARGUMENT
   * if they are not what `id` promises. Nothing is fetched before `start`.
   */
  add(id: string, indexBytes: Uint8Array, checkpointJson: Uint8Array): Promise<CacheEntry> {
    return this.#add(id, indexBytes, () => checkpointContent(indexBytes, checkpointJson));
  }

  /** The same for a lazy base layer. */
  addLayer(id: string, indexBytes: Uint8Array): Promise<CacheEntry> {
    return this.#add(id, indexBytes, () => layerContent(indexBytes));
  }

  async #add(id: string, indexBytes: Uint8Array, decode: () => EntryContent): Promise<CacheEntry> {
    const known = this.#entries.get(id) ?? this.#adding.get(id);
    if (known) {
      await this.#touch(await known);
      return known;
    }
    const adding = this.#make(id, indexBytes, decode).finally(() => this.#adding.delete(id));
    this.#adding.set(id, adding);
    return adding;
  }

  /** As `entry.wait`; a failed entry tries once more if there is a source and the failure is not fresh. */
  async wait(id: string, signal: AbortSignal): Promise<CacheEntry> {
    const entry = this.#known(id);
    await this.#touch(entry);
    const { state } = entry;
    if (
      state.kind === 'idle' ||
      (state.kind === 'failed' && this.#entryOptions.clock() - state.at >= RETRY_ON_DEMAND_MS)
    )
      this.#tryAgain(entry);
    await entry.wait(signal);
    return entry;
  }

  /**
   * As `entry.want`; NOT_FOUND for a checkpoint that is not here. While somebody waits, a fetch that failed is tried
   * again soon.
   */
  async want(id: string, ordinals: readonly number[], signal: AbortSignal): Promise<void> {
    const entry = this.#known(id);
    void this.#touch(entry);
    const arrived = entry.want(ordinals, signal);
    if (entry.isWanted) {
      if (entry.state.kind === 'idle') this.#tryAgain(entry);
      else this.#scheduleRetry(entry);
    }
    await arrived;
  }

  /**
   * What is present of a checkpoint: at once if that is not `known` chunks or all, else when it changes, or after 10 s.
   * NOT_FOUND for a checkpoint that is not here.
   */
  async presence(id: string, known: number, signal: AbortSignal): Promise<PresentChunks> {
    await this.#known(id).presenceOtherThan(known, signal);
    return this.#known(id).present;
  }

  #known(id: string): CacheEntry {
    const entry = this.#entries.get(id);
    if (!entry) throw notFound(`Checkpoint ${id} is not on this node; locate it first`);
    return entry;
  }

  /** Takes over what earlier runs left: complete entries as they are, others are fetched anew or thrown away. */
  async recover(): Promise<void> {
    const { directory } = this.#options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      if (name.startsWith(GONE)) await rm(path, { recursive: true, force: true });
      else if (/^[0-9a-f]{64}$/.test(name)) await this.#recoverEntry(`sha256:${name}`, path);
    }
  }

  /**
   * Frees a checkpoint's disk space and answers how much. NOT_FOUND if it is not here, FAILED_PRECONDITION while
   * somebody holds its lock.
   */
  async evict(id: string): Promise<bigint> {
    const freed = await this.#takeOut(id);
    this.#options.events.onEvicted(id, freed);
    return freed;
  }

  async #takeOut(id: string): Promise<bigint> {
    const entry = this.#entries.get(id);
    if (!entry) throw notFound(`Checkpoint ${id} is not on this node`);
    const refusal =
      'Cannot evict the checkpoint: the memory of a container still comes from it; try again when all is there';
    return this.#locked(entry.directory, refusal, async () => {
      this.#entries.delete(id);
      const leaving = this.#removeFiles(entry).finally(() => this.#leaving.delete(id));
      this.#leaving.set(id, leaving);
      return leaving;
    });
  }

  async #removeFiles(entry: CacheEntry): Promise<bigint> {
    const { id, directory } = entry;
    clearTimeout(this.#retries.get(id));
    this.#retries.delete(id);
    await entry.stop(notFound(`Checkpoint ${id} was evicted from this node; locate it again`));
    const { size } = await diskUsage(directory);
    await this.#empty(directory);
    return size;
  }

  async close(): Promise<void> {
    for (const timer of this.#retries.values()) clearTimeout(timer);
    this.#retries.clear();
    const reason = new SnapshotError(Code.unavailable, 'The snapshotter ends; try again');
    await Promise.allSettled(this.entries().map((entry) => entry.stop(reason)));
  }

  async #make(id: string, indexBytes: Uint8Array, decode: () => EntryContent): Promise<CacheEntry> {
    if (digestOf(indexBytes) !== id)
      throw dataLoss(`Cannot trust the index of checkpoint ${id}: its digest differs`);
    const content = decode();
    // Pulled again as it is evicted: what is written now would be removed with what was there.
    await this.#leaving.get(id)?.catch(() => {});
    const directory = this.#directoryOf(id);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFile(join(directory, INDEX), indexBytes, { mode: 0o600, flush: true });
    if (content.kind === 'checkpoint')
      await writeFile(join(directory, CHECKPOINT_JSON), content.json, { mode: 0o600, flush: true });
    await writeFile(join(directory, 'lock'), '', { mode: 0o600, flag: 'a' });
    await syncPath(directory);
    const entry = new CacheEntry(id, directory, content, this.#entryOptions);
    // What an earlier run left may be in use still.
    await entry.adopt();
    await this.#touch(entry);
    this.#entries.set(id, entry);
    return entry;
  }

  /** The lock's time of change is when its checkpoint was used last. */
  async #touch(entry: CacheEntry): Promise<void> {
    entry.lastUsed = this.#options.now();
    const seconds = entry.lastUsed / 1000;
    // Only the order of a later run suffers if this cannot be written.
    await utimes(entry.lockFile, seconds, seconds).catch(() => {});
  }

  /** A lazy layer's frames in the other ones. */
  async #findCopies(entry: CacheEntry): Promise<FrameCopies> {
    const [tar] = entry.index.files;
    if (entry.content.kind !== 'layer' || !tar) return new Map();
    const others = this.#others(entry).flatMap((other): OtherLayer[] =>
      other.content.kind !== 'layer'
        ? []
        : other.index.files.map(({ name, chunks }) => ({
            frames: chunks,
            path: join(other.imagesDirectory, name),
            has: (frame) => other.has(frame),
          })),
    );
    return findCopies(tar.chunks, others);
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#makingRoom.then(work);
    this.#makingRoom = done.catch(() => {});
    return done;
  }

  /** RESOURCE_EXHAUSTED if the checkpoint is larger than the cache, or what is in use leaves too little. */
  async #makeRoom(entry: CacheEntry): Promise<void> {
    const { maxBytes: limit } = this.#options;
    if (limit === undefined) return;
    if (entry.bytes > limit)
      throw new SnapshotError(
        Code.resourceExhausted,
        `Cannot store the checkpoint: it takes ${entry.bytes} bytes, and the node cache may hold ${limit}; raise cache.max_bytes`,
      );
    while (lacking(entry, this.#others(entry), limit) > 0n) {
      if (await this.#displaceOne(entry)) continue;
      throw new SnapshotError(
        Code.resourceExhausted,
        `Cannot store the checkpoint: ${lacking(entry, this.#others(entry), limit)} bytes are missing in the node cache, and all that is in there is in use; raise cache.max_bytes, or try again when containers have been restored`,
      );
    }
  }

  /** Evicts the one that was not used for longest; false if all are in use, or on their way. */
  async #displaceOne(entry: CacheEntry): Promise<boolean> {
    const idle = this.#others(entry).filter(({ state }) => state.kind !== 'fetching');
    for (const id of byLastUse(idle)) {
      try {
        this.#options.events.onDisplaced(id, await this.#takeOut(id));
        return true;
      } catch (error) {
        const { code } = describeError(error);
        if (code !== Code.failedPrecondition && code !== Code.notFound) throw error;
      }
    }
    return false;
  }

  #others(entry: CacheEntry): CacheEntry[] {
    return this.entries().filter((other) => other !== entry);
  }

  async #recoverEntry(id: string, directory: string): Promise<void> {
    const { events, reopen } = this.#options;
    let reason: string;
    try {
      const { indexBytes, content } = await readEntryFiles(directory);
      if (digestOf(indexBytes) !== id) throw dataLoss('its index is not the one it is named by');
      await writeFile(join(directory, 'lock'), '', { mode: 0o600, flag: 'a' });
      const entry = new CacheEntry(id, directory, content, this.#entryOptions);
      entry.lastUsed = (await stat(entry.lockFile)).mtimeMs;
      const source = (await entry.adopt()) ? undefined : reopen(id);
      if (entry.state.kind === 'complete' || source) {
        this.#entries.set(id, entry);
        if (source) entry.start(source);
        return;
      }
      reason = 'it is not complete and no snapshot names its image';
    } catch (error) {
      reason = describeError(error).message;
    }
    try {
      await this.#locked(directory, 'it is in use', () => this.#empty(directory));
      await rm(directory, { recursive: true, force: true });
      events.onDiscarded(id, reason);
    } catch (error) {
      events.onDiscarded(id, `${reason}; left in place: ${describeError(error).message}`);
    }
  }

  /** Runs `work` while nobody can take the entry's lock. The lock's file stays: somebody may be about to lock it. */
  async #locked<T>(directory: string, refusal: string, work: () => Promise<T>): Promise<T> {
    const handle = await open(join(directory, 'lock'), 'a', 0o600);
    try {
      if (!this.#options.tryLock(handle.fd, true))
        throw failedPrecondition(refusal, { context: { directory } });
      return await work();
    } finally {
      await handle.close();
    }
  }

  /** Removes everything but the lock. The marker goes first, so that no crash leaves it above missing files. */
  async #empty(directory: string): Promise<void> {
    await rm(join(directory, 'complete'), { force: true });
    await syncPath(directory);
    const gone = join(this.#options.directory, `${GONE}${randomUUID()}`);
    await mkdir(gone, { mode: 0o700 });
    for (const name of await readdir(directory))
      if (name !== 'lock') await rename(join(directory, name), join(gone, name));
    await rm(gone, { recursive: true, force: true });
  }

  #scheduleRetry(entry: CacheEntry): void {
    const { state } = entry;
    if (state.kind !== 'failed') return;
    const { retryAfterMs } = state.error.context;
    const asked = typeof retryAfterMs === 'number' ? retryAfterMs : undefined;
    const due = state.at + retryDelay({ ...state, retryAfterMs: asked }, entry.isWanted);
    const delay = Math.max(0, due - this.#entryOptions.clock());
    clearTimeout(this.#retries.get(entry.id));
    this.#retries.set(
      entry.id,
      setTimeout(() => {
        if (this.#entries.get(entry.id) === entry) this.#tryAgain(entry);
      }, delay).unref(),
    );
  }

  #tryAgain(entry: CacheEntry): void {
    const source = this.#options.reopen(entry.id);
    if (source) entry.start(source);
  }

  #directoryOf(id: string): string {
    return join(this.#options.directory, id.slice('sha256:'.length));
  }
}
