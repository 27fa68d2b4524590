/**
 * Lazy base layers on this node: EROFS mounts below the overlays, whose data the kernel reads from files of our FUSE
 * server, which has them from the node cache. Called by daemon.ts and remote/.
 */
import { closeSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { layerMetadata, TAR_FILE } from '../../checkpoint/lazy/layer-index.ts';
import type { Addon } from '../../native/index.ts';
import type { LayerServer } from '../../native/layer-server/calls.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { CacheEntry } from '../cache/index.ts';
import { failedPrecondition, internal, unavailable } from '../error.ts';
import { closeDevice, type DeviceOptions, mountPoints, openDevice } from './device.ts';
import { ErofsMounts, type MountCalls } from './erofs-mounts.ts';
import { metadataFile, nameFile, writeMetadata } from './metadata-file.ts';
import { nameOf, nodeOf, recordedName, recordedNode } from './served-names.ts';

export interface LazyLayersOptions {
  /** Resolves when the frames of a layer are here; see NodeCache.want. */
  want: (id: string, frames: readonly number[], signal: AbortSignal) => Promise<void>;
  native: MountCalls &
    Pick<
      Addon,
      | 'tryLock'
      | 'layerServerOpen'
      | 'layerServerStart'
      | 'layerServerAdd'
      | 'layerServerRemove'
      | 'layerServerPresent'
      | 'layerServerReads'
      | 'layerServerAnswer'
      | 'layerServerResend'
      | 'layerServerStop'
    >;
  device: DeviceOptions;
  /** `loop`: by loop devices also where the kernel can do without. */
  mounts: 'auto' | 'loop';
  threads: number;
  /** Longest time that a read waits for its frames. */
  readTimeoutMs: number;
  log: Logger;
}

/** A layer, and where it belongs. */
export interface LayerMount {
  entry: CacheEntry;
  directory: string;
  /** Of the snapshot's directory. */
  id: number;
}

/** Frames of a layer, in the order in which they were first read. */
export interface LayerReads {
  /** Digest of the layer's index. */
  id: string;
  /** Digest of its tar. */
  diffId: string;
  frames: Uint32Array;
}

interface Served {
  entry: CacheEntry;
  diffId: string;
  node: number;
  /** Shared lock on the cache entry: it is not evicted. */
  lock: number;
  /** Directories that it is mounted on. */
  mounts: Set<string>;
  /** Those of them where the kernel reads the file itself. */
  whole: Set<string>;
}

/** What nobody ends ends by itself. */
const LONGEST_RECORDING_MS = 15 * 60_000;
const { EIO } = constants.errno;

export class LazyLayers {
  readonly #options: LazyLayersOptions;
  readonly #mounts: ErofsMounts;
  readonly #served = new Map<string, Served>();
  readonly #byNode = new Map<number, Served>();
  #server: Promise<LayerServer> | undefined;
  /** What #server resolved to. */
  #running: LayerServer | undefined;
  readonly #stopping = new AbortController();
  /** Directories that have a mount on top whose reads are noted, with their layers. */
  #recording: { directories: Map<string, Served>; end: NodeJS.Timeout } | undefined;

  constructor(options: LazyLayersOptions) {
    this.#options = options;
    this.#mounts = new ErofsMounts(options.native, options.mounts);
  }

  /**
   * Mounts a layer on a directory. Its metadata are complete then; its data come as they are read. UNAVAILABLE where the
   * kernel cannot do it.
   */
  async mount(entry: CacheEntry, directory: string): Promise<void> {
    const server = await this.#start();
    let served: Served;
    // Its last mount may have gone, and its file with it, before this goes on.
    do served = await this.#serve(server, entry);
    while (this.#served.get(entry.id) !== served);
    try {
      if (entry.present.complete) this.#mountWhole(served, directory);
      else this.#mountOn(directory, entry, 'served');
    } catch (error) {
      this.#forgetUnused(served);
      throw error;
    }
    served.mounts.add(directory);
  }

  /** Takes away what is mounted on a directory; containers that run on it go on. */
  unmount(directory: string): void {
    this.#mounts.unmountAll(directory);
    this.#recording?.directories.delete(directory);
    for (const served of this.#served.values()) {
      served.whole.delete(directory);
      if (served.mounts.delete(directory)) this.#forgetUnused(served);
    }
  }

  /**
   * After a start, before containerd is answered: what an earlier daemon mounted is served again, and what is not mounted
   * (any more) is mounted. `onFailed` is told of what could not be.
   */
  async restore(layers: readonly LayerMount[], onFailed: (id: number) => void): Promise<void> {
    // What a daemon that was killed left without a layer.
    if (layers.length === 0) return closeDevice(this.#options.device);
    const mounted = mountPoints();
    const { log } = this.#options;
    const failed = ({ entry, directory, id }: LayerMount, error: unknown) => {
      log.error({ id: entry.id, directory, error: describeError(error).message }, 'layer not mounted');
      onFailed(id);
    };
    const missing: LayerMount[] = [];
    try {
      const { server, taken } = await this.#open();
      for (const layer of layers) {
        try {
          const { mounts } = await this.#serve(server, layer.entry);
          if (taken && mounted.has(layer.directory)) mounts.add(layer.directory);
          else missing.push(layer);
        } catch (error) {
          failed(layer, error);
        }
      }
      // Only now: what was read while there was no daemon finds its file, and so does what is sent again.
      this.#answer(server);
      if (taken) this.#askAgain(server);
      this.#server = Promise.resolve(server);
    } catch (error) {
      // Images without lazy layers are served all the same.
      log.error({ error: describeError(error).message }, 'lazy layers cannot be served');
      for (const { id } of layers) onFailed(id);
      return;
    }
    for (const layer of missing) {
      try {
        this.#mounts.unmountAll(layer.directory);
        await this.mount(layer.entry, layer.directory);
      } catch (error) {
        failed(layer, error);
      }
    }
  }

  /**
   * From now on, containers that are started read their lazy layers anew, without what the page cache has, and what they
   * read is noted. FAILED_PRECONDITION while that is so already.
   */
  record(): void {
    if (this.#recording)
      throw failedPrecondition('Cannot record what is read of lazy layers: it is being recorded already');
    const end = setTimeout(() => this.endRecord(), LONGEST_RECORDING_MS);
    end.unref();
    const directories = new Map<string, Served>();
    this.#recording = { directories, end };
    try {
      for (const served of this.#served.values())
        for (const directory of served.mounts) {
          this.#mountOn(directory, served.entry, 'recorded');
          directories.set(directory, served);
        }
    } catch (error) {
      this.endRecord();
      throw error;
    }
  }

  /** What was read since `record`; empty if nothing was recorded. */
  endRecord(): LayerReads[] {
    const recording = this.#recording;
    if (!recording) return [];
    this.#recording = undefined;
    clearTimeout(recording.end);
    const server = this.#running;
    const reads = new Map<string, LayerReads>();
    for (const [directory, { entry, diffId, node }] of recording.directories) {
      this.#mounts.unmountTop(directory);
      if (!server) continue;
      const frames = this.#options.native.layerServerReads(server, recordedNode(node));
      reads.set(entry.id, { id: entry.id, diffId, frames });
    }
    for (const served of recording.directories.values()) this.#completed(served);
    return [...reads.values()];
  }

  /** Ends the server. Mounts stay, and whoever reads waits for the next one; without any the device goes too. */
  async close(): Promise<void> {
    this.#stopping.abort();
    this.endRecord();
    const server = await this.#server?.catch(() => undefined);
    if (!server) return;
    const unused = this.#served.size === 0;
    this.#options.native.layerServerStop(server);
    for (const { lock, entry } of this.#served.values()) {
      forget(entry);
      closeSync(lock);
    }
    this.#served.clear();
    this.#byNode.clear();
    if (unused) closeDevice(this.#options.device);
  }

  async #start(): Promise<LayerServer> {
    this.#server ??= this.#open().then(({ server }) => this.#answer(server));
    try {
      return await this.#server;
    } catch (error) {
      // Another attempt for the next layer.
      this.#server = undefined;
      throw error;
    }
  }

  /** Answers nobody before `#answer`. */
  async #open(): Promise<{ server: LayerServer; taken: boolean }> {
    const { native, device } = this.#options;
    const { fd, taken } = await openDevice(device);
    const server = native.layerServerOpen(fd, (node, first, last, ticket) => {
      void this.#wanted(server, node, first, last, ticket);
    });
    closeSync(fd);
    this.#running = server;
    return { server, taken };
  }

  /** What the daemon before had read from the kernel and not answered. */
  #askAgain(server: LayerServer): void {
    const { native, log } = this.#options;
    try {
      native.layerServerResend(server);
    } catch (error) {
      // Before Linux 6.9: whoever waited for that daemon waits on, and everybody else is served.
      log.warn(
        { error: describeError(error).message },
        'reads that the daemon before had begun stay unanswered',
      );
    }
  }

  #answer(server: LayerServer): LayerServer {
    const { native, threads } = this.#options;
    try {
      native.layerServerStart(server, threads);
      return server;
    } catch (error) {
      native.layerServerStop(server);
      throw error;
    }
  }

  /**
   * `whole`: every byte is here, so the kernel reads the file itself, and no server is in between. `recorded`: reads are
   * noted.
   */
  #mountOn(directory: string, entry: CacheEntry, what: 'served' | 'whole' | 'recorded'): void {
    const served = join(this.#options.device.directory, nameOf(entry.id));
    const tar = { served, recorded: recordedName(served), whole: join(entry.imagesDirectory, TAR_FILE) }[
      what
    ];
    this.#mounts.mount(metadataFile(entry), tar, directory);
  }

  #mountWhole({ entry, whole }: Served, directory: string): void {
    this.#mountOn(directory, entry, 'whole');
    whole.add(directory);
  }

  /** The last byte has come: whoever mounts it next needs no server. What runs on the mount below stays there. */
  #completed(served: Served): void {
    const { entry, mounts, whole } = served;
    if (!entry.present.complete) return;
    for (const directory of mounts) {
      if (whole.has(directory) || this.#recording?.directories.has(directory)) continue;
      try {
        this.#mountWhole(served, directory);
      } catch (error) {
        this.#options.log.warn(
          { id: entry.id, directory, error: describeError(error).message },
          'layer stays served',
        );
      }
    }
  }

  async #serve(server: LayerServer, entry: CacheEntry): Promise<Served> {
    const known = this.#served.get(entry.id);
    if (known) return known;
    if (entry.content.kind !== 'layer') throw internal(`"${entry.id}" is no layer`);
    const { index } = entry.content;
    await entry.makeFiles();
    await writeMetadata(entry, await layerMetadata(index));
    const again = this.#served.get(entry.id);
    if (again) return again;
    const { native } = this.#options;
    const lock = openSync(entry.lockFile, 'r');
    const tar = openSync(join(entry.imagesDirectory, TAR_FILE), 'r');
    try {
      if (!native.tryLock(lock, false)) throw unavailable(`Layer ${entry.id} is just being evicted`);
      const node = nodeOf(entry.id);
      const size = index.files[0]?.size ?? 0n;
      const files = [
        { node, name: nameOf(entry.id), records: false },
        { node: recordedNode(node), name: recordedName(nameOf(entry.id)), records: true },
      ];
      entry.onPresent = (frame) => {
        for (const file of files) native.layerServerPresent(server, file.node, frame);
      };
      const { diffId } = index;
      const served = { entry, diffId, node, lock, mounts: new Set<string>(), whole: new Set<string>() };
      for (const file of files) {
        const { bits } = entry.present;
        native.layerServerAdd(server, file.node, file.name, tar, size, index.frameBytes, bits, file.records);
        this.#byNode.set(file.node, served);
      }
      entry.onComplete = () => this.#completed(served);
      this.#served.set(entry.id, served);
      return served;
    } catch (error) {
      closeSync(lock);
      throw error;
    } finally {
      closeSync(tar);
    }
  }

  /** Its last mount is gone; containerd removes a layer only when no container runs on it. */
  #forgetUnused({ entry, node, lock, mounts }: Served): void {
    if (mounts.size > 0) return;
    this.#served.delete(entry.id);
    forget(entry);
    closeSync(lock);
    for (const file of [node, recordedNode(node)]) {
      this.#byNode.delete(file);
      if (this.#running) this.#options.native.layerServerRemove(this.#running, file);
    }
  }

  async #wanted(
    server: LayerServer,
    node: number,
    first: number,
    last: number,
    ticket: number,
  ): Promise<void> {
    const { native, want, readTimeoutMs, log } = this.#options;
    const served = this.#byNode.get(node);
    if (!served) return native.layerServerAnswer(server, ticket, EIO);
    const frames = Array.from({ length: last - first + 1 }, (_, i) => first + i);
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(readTimeoutMs)]);
    try {
      await want(served.entry.id, frames, signal);
      native.layerServerAnswer(server, ticket, 0);
    } catch (error) {
      // The next daemon gets it again.
      if (this.#stopping.signal.aborted) return;
      const { code, message } = describeError(error);
      const file = await nameFile(served.entry, first);
      const why = code === Code.canceled ? `not here after ${readTimeoutMs} ms` : message;
      log.error({ id: served.entry.id, file, frames: [first, last], error: why }, 'read failed');
      native.layerServerAnswer(server, ticket, EIO);
    }
  }
}

function forget(entry: CacheEntry): void {
  entry.onPresent = () => {};
  entry.onComplete = () => {};
}
