/**
 * Ordinary snapshots: metadata and directories together, as containerd's overlayfs snapshotter keeps them. Knows
 * nothing of checkpoints but that a directory may stand for a layer of one. Called by the gRPC service, by remote/ and
 * by checkpoints/.
 */

import { diskUsage } from '../disk-usage.ts';
import { failedPrecondition, invalidArgument } from '../error.ts';
import type {
  Kind,
  Labels,
  Listing,
  NewDirectory,
  Removed,
  Snapshot,
  SnapshotStore,
  Usage,
} from '../store/index.ts';
import type { Directories } from './directories.ts';
import { type Mount, mountsOf } from './mounts.ts';

export { Directories } from './directories.ts';
export type { Mount } from './mounts.ts';

export interface OverlayOptions {
  store: SnapshotStore;
  directories: Directories;
  /** Whether the kernel's overlay knows the option index=off. */
  indexOff: boolean;
  /** CLOCK_REALTIME in nanoseconds. */
  now: () => bigint;
  /** A background deletion failed; it is tried again at Cleanup. */
  onSweepError: (error: unknown) => void;
}

/** A committed snapshot that no client unpacked. */
export interface ReadyLayer {
  name: string;
  parent: string;
  labels: Labels;
  content:
    | { kind: 'checkpoint'; checkpoint: string; files: Readonly<Record<string, Uint8Array>> }
    | { kind: 'shared'; directory: number };
}

export class OverlaySnapshotter {
  readonly #options: OverlayOptions;
  #sweeping: Promise<void> | undefined;
  #sweepAgain = false;

  constructor(options: OverlayOptions) {
    this.#options = options;
  }

  get directories(): Directories {
    return this.#options.directories;
  }

  get store(): SnapshotStore {
    return this.#options.store;
  }

  /** NOT_FOUND, INVALID_ARGUMENT, ALREADY_EXISTS as SnapshotStore.create. */
  async create(
    kind: Exclude<Kind, 'committed'>,
    key: string,
    parent: string,
    labels: Labels,
  ): Promise<Mount[]> {
    if (key === '') throw invalidArgument('Cannot create a snapshot without a key');
    await this.#insert({ kind, name: key, parent, labels }, { kind: 'own' }, {});
    return this.mounts(key);
  }

  /** Commits a layer that is ready as it is. Errors as `create`. */
  async createReady(layer: ReadyLayer): Promise<Snapshot> {
    const { name, parent, labels, content } = layer;
    const snapshot = { kind: 'committed', name, parent, labels } as const;
    switch (content.kind) {
      case 'checkpoint':
        return this.#insert(snapshot, { kind: 'own', checkpoint: content.checkpoint }, content.files);
      case 'shared':
        return this.store.create(
          { ...snapshot, now: this.#options.now() },
          { kind: 'shared', id: content.directory },
          () => {},
        );
    }
  }

  /** FAILED_PRECONDITION for a committed snapshot. */
  mounts(key: string): Mount[] {
    const { kind, directory } = this.store.get(key);
    if (kind === 'committed')
      throw failedPrecondition(`Cannot mount snapshot "${key}": requested snapshot not active or view`);
    const parents = this.store.ancestors(key).map((snapshot) => snapshot.directory.id);
    return mountsOf(
      this.directories.path,
      { kind, directory: directory.id, parents },
      this.#options.indexOff,
    );
  }

  /** Answers at once: disk use is counted later, because containerd holds its write transaction meanwhile. */
  commit(name: string, key: string, labels: Labels): Snapshot {
    if (name === '') throw invalidArgument('Cannot commit a snapshot without a name');
    return this.store.commit(name, key, labels, this.#options.now());
  }

  update(name: string, labels: Labels, mask: readonly string[]): Snapshot {
    return this.store.update(name, labels, mask, this.#options.now());
  }

  stat(name: string): Snapshot {
    return this.store.get(name);
  }

  list(): Listing {
    return this.store.list();
  }

  /** The snapshot's own directory: counted anew while it is active, once when it is committed. */
  async usage(name: string): Promise<Usage> {
    const { kind, directory } = this.store.get(name);
    if (kind !== 'committed') return diskUsage(this.directories.fs(directory.id));
    const known = this.store.usage(directory.id);
    if (known) return known;
    const counted = await diskUsage(this.directories.fs(directory.id));
    this.store.setUsage(directory.id, counted);
    return counted;
  }

  /** The name is free at once; the directory is deleted in the background. */
  remove(name: string): Removed {
    const removed = this.store.remove(name);
    if (removed.directory !== undefined) {
      this.directories.retire(removed.directory);
      this.#startSweep();
    }
    return removed;
  }

  /** Brings disk and store together after a start: directories that no row names go. */
  recover(): void {
    this.directories.retireOrphans(this.store.directories());
    this.#startSweep();
  }

  /** Waits until everything removed so far is deleted. */
  async cleanup(): Promise<void> {
    this.#startSweep();
    await this.#sweeping;
  }

  /** Waits for deletions under way; what is left then goes after the next start. */
  async settle(): Promise<void> {
    await this.#sweeping;
  }

  async #insert(
    snapshot: { kind: Kind; name: string; parent: string; labels: Labels },
    directory: NewDirectory,
    files: Readonly<Record<string, Uint8Array>>,
  ): Promise<Snapshot> {
    const { store, directories, now } = this.#options;
    const parent = snapshot.parent === '' ? undefined : this.store.find(snapshot.parent)?.directory.id;
    // The store gives the right error for a parent that is missing or a name that is taken.
    const prepared = await directories.prepare({
      work: snapshot.kind === 'active',
      parent,
      files,
    });
    try {
      return store.create({ ...snapshot, now: now() }, directory, (id) => directories.place(prepared, id));
    } catch (error) {
      await directories.discard(prepared);
      throw error;
    }
  }

  #startSweep(): void {
    this.#sweepAgain = true;
    this.#sweeping ??= this.#sweep().finally(() => {
      this.#sweeping = undefined;
    });
  }

  async #sweep(): Promise<void> {
    while (this.#sweepAgain) {
      this.#sweepAgain = false;
      try {
        await this.directories.sweep();
      } catch (error) {
        this.#options.onSweepError(error);
      }
    }
  }
}
