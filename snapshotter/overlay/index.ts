/**
 * Ordinary snapshots: metadata and directories together, as containerd's overlayfs snapshotter keeps them. Knows
 * nothing of checkpoints but that a directory may stand for a layer of one. Called by the gRPC service, by remote/ and
 * by checkpoints/.
 */

import { diskUsage } from '../disk-usage.ts';
import { dataLoss, failedPrecondition, invalidArgument } from '../error.ts';
import type { Kind, Labels, Listing, Removed, Snapshot, SnapshotStore, Usage } from '../store/index.ts';
import type { Directories } from './directories.ts';
import { mappedRoot } from './id-map.ts';
import { type Mount, mountsOf } from './mounts.ts';
import { Sweeper } from './sweeper.ts';

export { Directories } from './directories.ts';
export { overlayOptions, thisKernel, writableOptions } from './mount-options.ts';
export type { Mount } from './mounts.ts';

export interface OverlayOptions {
  store: SnapshotStore;
  directories: Directories;
  /** Of every overlay mount; see overlayOptions. */
  mountOptions: readonly string[];
  /** Of those that can be written to; see writableOptions. */
  writableOptions?: readonly string[];
  /** CLOCK_REALTIME in nanoseconds. */
  now: () => bigint;
  events: OverlayEvents;
}

export interface OverlayEvents {
  /** A directory that nobody needs is still there; Cleanup and the next start try again. */
  onNotDeleted: (error: unknown) => void;
  /** The directory of a view or active snapshot was gone, and is there again, empty. */
  onRemade: (name: string) => void;
  /** It cannot be looked at, or not be made again; the next start tries again. */
  onNotRemade: (name: string, error: unknown) => void;
  /** The files of committed snapshots are gone: whatever lies on them cannot be mounted. */
  onLost: (names: readonly string[]) => void;
}

/** A committed snapshot that no client unpacked. */
export interface ReadyLayer {
  name: string;
  parent: string;
  labels: Labels;
  content:
    | { kind: 'checkpoint'; checkpoint: string; files: Readonly<Record<string, Uint8Array>> }
    /** An empty one. */
    | { kind: 'plain'; files: Readonly<Record<string, Uint8Array>> }
    /** `mount` puts the layer on the directory before there is a row. */
    | {
        kind: 'lazy';
        layer: string;
        files: Readonly<Record<string, Uint8Array>>;
        mount: (directory: string) => Promise<void>;
      }
    | { kind: 'shared'; directory: number };
}

export class OverlaySnapshotter {
  readonly #options: OverlayOptions;
  readonly #sweeper: Sweeper;
  readonly #counting = new Map<number, Promise<Usage>>();
  /** Directories of committed snapshots that are gone. */
  readonly #lost = new Set<number>();

  constructor(options: OverlayOptions) {
    this.#options = options;
    const { store, directories, events } = options;
    this.#sweeper = new Sweeper({
      directories,
      rows: () => store.directories(),
      flushed: () => store.flushed(),
      onError: events.onNotDeleted,
    });
  }

  get directories(): Directories {
    return this.#options.directories;
  }

  get store(): SnapshotStore {
    return this.#options.store;
  }

  /** Throws INTERNAL if the disk failed. */
  check(): void {
    this.store.check();
    this.directories.check();
  }

  /** See SnapshotStore.flushed; whoever answers a client waits for it. */
  flushed(): Promise<void> | undefined {
    return this.store.flushed();
  }

  /** See SnapshotStore.flushedOf; enough for who looked at one snapshot and changed nothing. */
  flushedOf(name: string): Promise<void> | undefined {
    return this.store.flushedOf(name);
  }

  /** NOT_FOUND, INVALID_ARGUMENT, ALREADY_EXISTS as SnapshotStore.create. */
  async create(
    kind: Exclude<Kind, 'committed'>,
    key: string,
    parent: string,
    labels: Labels,
  ): Promise<Mount[]> {
    if (key === '') throw invalidArgument('Cannot create a snapshot without a key');
    await this.#insert({ kind, name: key, parent, labels }, {});
    return this.mounts(key);
  }

  /** Commits a layer that is ready as it is. Errors as `create`. */
  async createReady(layer: ReadyLayer): Promise<Snapshot> {
    const { name, parent, labels, content } = layer;
    const snapshot = { kind: 'committed', name, parent, labels } as const;
    switch (content.kind) {
      case 'checkpoint':
        return this.#insert(snapshot, { checkpoint: content.checkpoint, files: content.files });
      case 'plain':
        return this.#insert(snapshot, { files: content.files });
      case 'lazy':
        return this.#insert(snapshot, content);
      case 'shared':
        return this.store.together(() =>
          this.store.create(
            { ...snapshot, now: this.#options.now() },
            { kind: 'shared', id: content.directory },
          ),
        );
    }
  }

  /** FAILED_PRECONDITION for a committed snapshot. */
  mounts(key: string): Mount[] {
    const { parent, kind, directory } = this.store.get(key);
    if (kind === 'committed')
      throw failedPrecondition(`Cannot mount snapshot "${key}": requested snapshot not active or view`);
    const below = parent === '' ? [] : this.store.ancestors(key);
    this.#refuseLost(below);
    const parents = below.map((snapshot) => snapshot.directory.id);
    return mountsOf(
      this.directories.path,
      { kind, directory: directory.id, parents },
      { all: this.#options.mountOptions, writable: this.#options.writableOptions ?? [] },
    );
  }

  /** Does little: disk use is counted later, because containerd holds its write transaction meanwhile. */
  async commit(name: string, key: string, labels: Labels): Promise<Snapshot> {
    if (name === '') throw invalidArgument('Cannot commit a snapshot without a name');
    const { store, directories, now } = this.#options;
    for (;;) {
      let flushing: Promise<void> | undefined;
      const committed = await store.together(() => {
        const directory = store.directoryOf(key);
        flushing = directory === undefined ? undefined : directories.flushed(directory);
        return flushing ? undefined : store.commit(name, key, labels, now());
      });
      if (committed) return committed;
      await flushing;
    }
  }

  update(name: string, labels: Labels, mask: readonly string[]): Promise<Snapshot> {
    const { store, now } = this.#options;
    return store.together(() => store.update(name, labels, mask, now()));
  }

  stat(name: string): Snapshot {
    return this.store.get(name);
  }

  list(): Listing {
    return this.store.list();
  }

  /**
   * The snapshot's own directory: counted anew while it is active, once when it is committed. A view has nothing of its
   * own.
   */
  async usage(name: string): Promise<Usage> {
    const { kind, directory } = this.store.get(name);
    switch (kind) {
      case 'view':
        return { size: 0n, inodes: 0n };
      case 'active':
        return this.#count(directory.id);
      case 'committed': {
        // What is mounted there takes no space of its own.
        if (directory.layer !== undefined) return { size: 0n, inodes: 1n };
        const known = this.store.usage(directory.id);
        if (known) return known;
        const counted = await this.#count(directory.id);
        this.store.setUsage(directory.id, counted);
        return counted;
      }
    }
  }

  /** The name is free at once; the directory is deleted in the background. */
  async remove(name: string): Promise<Removed> {
    const removed = await this.store.together(() => this.store.remove(name));
    // Before the files go: with its row back, after a power failure, the snapshot would be one without files.
    await this.store.flushedOf(name);
    const { directory, mounted } = removed;
    if (directory === undefined) return removed;
    this.#lost.delete(directory);
    try {
      // Before the answer: a daemon that ends then must not leave behind what nobody serves.
      if (mounted) this.directories.unmount(directory);
      this.#sweeper.delete(directory);
    } catch (error) {
      // The snapshot is removed all the same: an error would end containerd's collection of garbage.
      this.#options.events.onNotDeleted(error);
    }
    return removed;
  }

  /** Brings disk and store together after a start, before anything is served. Orphans go in the background. */
  async recover(): Promise<void> {
    const { store, directories, events } = this.#options;
    const present = await directories.present();
    const largest = [...present].reduce((max, id) => Math.max(max, id), 0);
    // What a daemon that died was making has no row, and its id was not given yet as the store knows it.
    store.reserveDirectory(largest);
    const lost: string[] = [];
    for (const id of store.directories()) {
      if (present.has(id)) continue;
      const committed = store.withDirectory(id).filter(({ kind }) => kind === 'committed');
      if (committed.length === 0) continue;
      this.#lost.add(id);
      lost.push(...committed.map(({ name }) => name));
    }
    if (lost.length > 0) events.onLost(lost);
    for (const snapshot of store.uncommitted())
      if (await this.#mend(snapshot)) events.onRemade(snapshot.name);
    void this.#sweeper.look();
  }

  /** What is mounted on a committed snapshot's directory could not be mounted: nothing may lie on it, or show it empty. */
  lose(directory: number): void {
    this.#lost.add(directory);
  }

  /** Waits until everything removed so far is deleted. */
  async cleanup(): Promise<void> {
    await this.#sweeper.look();
    this.store.holdSpareRoom();
  }

  /** Deletes what was removed. */
  async settle(): Promise<void> {
    await this.#sweeper.settle();
  }

  async #insert(
    snapshot: { kind: Kind; name: string; parent: string; labels: Labels },
    content: {
      checkpoint?: string;
      layer?: string;
      files?: Readonly<Record<string, Uint8Array>>;
      mount?: (directory: string) => Promise<void>;
    },
  ): Promise<Snapshot> {
    const { store, directories, now } = this.#options;
    const { kind, labels } = snapshot;
    const parent = snapshot.parent === '' ? undefined : store.find(snapshot.parent);
    if (parent) this.#refuseLost([parent, ...store.ancestors(parent.name)]);
    const id = store.reserveDirectory();
    const layout = {
      flushed: kind === 'committed',
      work: needsWork(kind, snapshot.parent),
      parent: parent?.directory.id,
      owner: mappedRoot(labels),
      files: content.files ?? {},
      mount: content.mount,
    };
    const { checkpoint, layer } = content;
    // The store gives the right error for a parent that is missing or a name that is taken.
    const record = () =>
      store.together(() =>
        store.create(
          { ...snapshot, now: now() },
          { kind: 'own', id, ...(checkpoint && { checkpoint }), ...(layer && { layer }) },
        ),
      );
    const made = await directories.make(id, layout, record);
    if (!layout.flushed) void this.#flushLater(snapshot.name, id);
    return made;
  }

  /**
   * Behind the answer to Prepare, so that Commit, which containerd calls within a transaction, finds it done: once a layer is
   * unpacked, the file system's journal is full of it.
   */
  async #flushLater(name: string, directory: number): Promise<void> {
    try {
      await this.flushedOf(name);
      await this.directories.flushed(directory);
    } catch {
      // Told to whoever needs it.
    }
  }

  /** Makes again what a power failure took. False if nothing is missing, or the files below are lost as well. */
  async #mend({ name, kind, labels, parent: below, directory: { id } }: Snapshot): Promise<boolean> {
    const { directories, store } = this.#options;
    const work = needsWork(kind, below);
    try {
      if (await directories.complete(id, { work })) return false;
      directories.retire(id);
      const [parent] = store.ancestors(name);
      const layout = { flushed: false, work, parent: parent?.directory.id, owner: mappedRoot(labels) };
      await directories.make(id, layout, () => {});
      return true;
    } catch (error) {
      this.#options.events.onNotRemade(name, error);
      return false;
    }
  }

  #refuseLost(chain: readonly Snapshot[]): void {
    if (this.#lost.size === 0) return;
    const lost = chain.find(({ directory }) => this.#lost.has(directory.id));
    if (lost)
      throw dataLoss(
        `Cannot mount snapshot "${lost.name}": its files are gone from "${this.directories.path}/${lost.directory.id}"; remove the images that have it, and pull them again`,
      );
  }

  /** Shared by all who ask meanwhile. */
  #count(directory: number): Promise<Usage> {
    let counting = this.#counting.get(directory);
    if (!counting) {
      counting = diskUsage(this.directories.fs(directory)).finally(() => this.#counting.delete(directory));
      this.#counting.set(directory, counting);
    }
    return counting;
  }
}

/** Without a parent an active snapshot is a bind mount. */
function needsWork(kind: Kind, parent: string): boolean {
  return kind === 'active' && parent !== '';
}
