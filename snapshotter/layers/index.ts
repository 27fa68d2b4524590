/**
 * Lazy base layers on this node: EROFS mounts below the overlays, whose data the kernel reads from files of our FUSE
 * server, which has them from the node cache. Called by daemon.ts and remote/.
 */
import { closeSync, openSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { fileAt } from '../../checkpoint/lazy/erofs-reader.ts';
import { layerMetadata, TAR_FILE } from '../../checkpoint/lazy/layer-index.ts';
import type { Addon, LayerServer } from '../../native/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { CacheEntry } from '../cache/index.ts';
import { internal, unavailable } from '../error.ts';
import { closeDevice, type DeviceOptions, mountPoints, openDevice } from './device.ts';

export interface LazyLayersOptions {
  /** Resolves when the frames of a layer are here; see NodeCache.want. */
  want: (id: string, frames: readonly number[], signal: AbortSignal) => Promise<void>;
  native: Pick<
    Addon,
    | 'mount'
    | 'umount'
    | 'tryLock'
    | 'layerServerStart'
    | 'layerServerAdd'
    | 'layerServerRemove'
    | 'layerServerPresent'
    | 'layerServerAnswer'
    | 'layerServerResend'
    | 'layerServerStop'
  >;
  device: DeviceOptions;
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

interface Served {
  entry: CacheEntry;
  node: number;
  /** Shared lock on the cache entry: it is not evicted. */
  lock: number;
  /** Directories that it is mounted on. */
  mounts: Set<string>;
}

const METADATA = 'metadata';
const MS_RDONLY = 1;
const MS_NODEV = 4;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const { EIO } = constants.errno;

export class LazyLayers {
  readonly #options: LazyLayersOptions;
  readonly #served = new Map<string, Served>();
  readonly #byNode = new Map<number, Served>();
  #server: Promise<LayerServer> | undefined;
  readonly #stopping = new AbortController();

  constructor(options: LazyLayersOptions) {
    this.#options = options;
  }

  /**
   * Mounts a layer on a directory. Its metadata are complete then; its data come as they are read. UNAVAILABLE where the
   * kernel cannot do it.
   */
  async mount(entry: CacheEntry, directory: string): Promise<void> {
    const { native, device } = this.#options;
    const server = await this.#start();
    const served = await this.#serve(server, entry);
    try {
      const tar = join(device.directory, nameOf(entry));
      native.mount(
        join(entry.directory, METADATA),
        directory,
        'erofs',
        MS_RDONLY | MS_NODEV,
        `device=${tar}`,
      );
    } catch (cause) {
      this.#forgetUnused(served);
      const { message } = describeError(cause);
      throw unavailable(`Cannot mount a lazy layer (EROFS on files needs Linux 6.12): ${message}`, { cause });
    }
    served.mounts.add(directory);
  }

  /** Takes away what is mounted on a directory; containers that run on it go on. */
  unmount(directory: string): void {
    try {
      this.#options.native.umount(directory, MNT_DETACH | UMOUNT_NOFOLLOW);
    } catch (error) {
      const { errno } = describeError(error).context;
      // Nothing is mounted there, or it is gone.
      if (errno !== 'EINVAL' && errno !== 'ENOENT') throw error;
    }
    for (const served of this.#served.values())
      if (served.mounts.delete(directory)) this.#forgetUnused(served);
  }

  /**
   * After a start, before containerd is answered: what an earlier daemon mounted is served again, and what is not mounted
   * (any more) is mounted. `onFailed` is told of what could not be.
   */
  async restore(layers: readonly LayerMount[], onFailed: (id: number) => void): Promise<void> {
    // What a daemon that was killed left without a layer.
    if (layers.length === 0) return closeDevice(this.#options.device);
    const mounted = mountPoints();
    const { native, log } = this.#options;
    let opened: { server: LayerServer; taken: boolean };
    try {
      opened = await this.#open();
    } catch (error) {
      // Images without lazy layers are served all the same.
      log.error({ error: describeError(error).message }, 'lazy layers cannot be served');
      for (const { id } of layers) onFailed(id);
      return;
    }
    const { server, taken } = opened;
    this.#server = Promise.resolve(server);
    for (const { entry, directory, id } of layers) {
      try {
        if (taken && mounted.has(directory)) {
          (await this.#serve(server, entry)).mounts.add(directory);
        } else {
          if (mounted.has(directory)) native.umount(directory, MNT_DETACH);
          await this.mount(entry, directory);
        }
      } catch (error) {
        log.error({ id: entry.id, directory, error: describeError(error).message }, 'layer not mounted');
        onFailed(id);
      }
    }
    // Only now: what is sent again finds its file.
    if (taken) native.layerServerResend(server);
  }

  /** Ends the server. Mounts stay, and whoever reads waits for the next one; without any the device goes too. */
  async close(): Promise<void> {
    this.#stopping.abort();
    const server = await this.#server?.catch(() => undefined);
    if (!server) return;
    const unused = this.#served.size === 0;
    this.#options.native.layerServerStop(server);
    for (const { lock, entry } of this.#served.values()) {
      entry.onPresent = () => {};
      closeSync(lock);
    }
    this.#served.clear();
    this.#byNode.clear();
    if (unused) closeDevice(this.#options.device);
  }

  async #start(): Promise<LayerServer> {
    this.#server ??= this.#open().then(({ server }) => server);
    try {
      return await this.#server;
    } catch (error) {
      // Another attempt for the next layer.
      this.#server = undefined;
      throw error;
    }
  }

  async #open(): Promise<{ server: LayerServer; taken: boolean }> {
    const { native, device, threads } = this.#options;
    const { fd, taken } = await openDevice(device);
    const server = native.layerServerStart(fd, threads, (node, first, last, ticket) => {
      void this.#wanted(server, node, first, last, ticket);
    });
    closeSync(fd);
    return { server, taken };
  }

  async #serve(server: LayerServer, entry: CacheEntry): Promise<Served> {
    const known = this.#served.get(entry.id);
    if (known) return known;
    if (entry.content.kind !== 'layer') throw internal(`"${entry.id}" is no layer`);
    const { index } = entry.content;
    await entry.makeFiles();
    await writeMetadata(entry, () => layerMetadata(index));
    const again = this.#served.get(entry.id);
    if (again) return again;
    const { native } = this.#options;
    const lock = openSync(entry.lockFile, 'r');
    const tar = openSync(join(entry.imagesDirectory, TAR_FILE), 'r');
    try {
      if (!native.tryLock(lock, false)) throw unavailable(`Layer ${entry.id} is just being evicted`);
      const node = nodeOf(entry.id);
      const size = index.files[0]?.size ?? 0n;
      entry.onPresent = (frame) => native.layerServerPresent(server, node, frame);
      native.layerServerAdd(server, node, nameOf(entry), tar, size, index.frameBytes, entry.present.bits);
      const served = { entry, node, lock, mounts: new Set<string>() };
      this.#served.set(entry.id, served);
      this.#byNode.set(node, served);
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
    this.#byNode.delete(node);
    entry.onPresent = () => {};
    closeSync(lock);
    void this.#server?.then((server) => this.#options.native.layerServerRemove(server, node)).catch(() => {});
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

/** Inode numbers must be the same after a restart: the kernel keeps them. 48 bits of the digest, and never those below 2. */
function nodeOf(id: string): number {
  return 2 + Number.parseInt(id.slice('sha256:'.length, 'sha256:'.length + 12), 16);
}

function nameOf({ id }: CacheEntry): string {
  return id.slice('sha256:'.length);
}

async function writeMetadata({ directory }: CacheEntry, decode: () => Promise<Buffer>): Promise<void> {
  const path = join(directory, METADATA);
  // Written anew by each daemon: nobody checks what a power failure left of it.
  await writeFile(`${path}.new`, await decode(), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** The file whose content begins a frame, for people. */
async function nameFile({ content, directory }: CacheEntry, frame: number): Promise<string | undefined> {
  if (content.kind !== 'layer') return undefined;
  try {
    const image = await readFile(join(directory, METADATA));
    const { frameBytes } = content.index;
    return fileAt(image, frame * frameBytes) ?? fileAt(image, (frame + 1) * frameBytes - 1);
  } catch {
    return undefined;
  }
}
